//! The body of an answer as it goes out: whole, or frame by frame at the asked pace, with the asked fault.
//!
//! Without a pace no timer is touched. The request's ticket rides along: it ends when the last frame is handed over,
//! before the client can have seen it, and counts the client as gone if the body is dropped earlier.

use std::future::Future;
use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame as BodyFrame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::behaviour::{Behaviour, CutBy, Fault};
use super::encode::Encoder;
use super::frames::{Frame, Frames};
use super::socket::ResetFlag;
use super::stats::{Outcome, Ticket};

/// Time that the frames before a cut or an error get to reach the other side: a reset throws away what has not been
/// read, and some clients see an error only if it comes by itself.
const BEFORE_FAULT: Duration = Duration::from_millis(10);

/// The body of an answer.
#[derive(Debug)]
pub(super) enum SimulatedBody {
    /// In one piece, with the ticket of what is counted.
    Whole(Option<Bytes>, Option<Box<Ticket>>),
    /// In frames.
    Stream(Box<Streamed>),
}

/// A body in frames.
#[derive(Debug)]
pub(super) struct Streamed {
    /// Where they come from.
    pub(super) source: Source,
    /// Packs them.
    pub(super) encoder: Option<Encoder>,
    /// When frames with tokens go out.
    pub(super) pace: Pace,
    /// What goes wrong, and after how many frames.
    pub(super) fault: Option<(u64, Fault)>,
    /// Code of the error event.
    pub(super) error_code: Option<String>,
    /// Resets the connection, where it is the stream's own.
    pub(super) reset: Option<ResetFlag>,
    /// The request.
    pub(super) ticket: Box<Ticket>,
    /// State of the machine.
    pub(super) state: State,
}

/// When a stream's frames with tokens go out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// At once.
    Unpaced,
    /// So long after the frame before.
    Gap(Duration),
    /// At so many tokens per second since the stream began: however late single frames are, the whole is on time.
    Speed(NonZeroU64, Instant),
}

impl Pace {
    /// The one that is asked for, for a stream that begins now.
    pub(super) fn of(behaviour: &Behaviour) -> Self {
        match (behaviour.token_pace, behaviour.tokens_per_second) {
            (Some(pace), _) if pace.is_zero() => Pace::Unpaced,
            (Some(pace), _) => Pace::Gap(pace),
            (None, Some(speed)) => Pace::Speed(speed, Instant::now()),
            (None, None) => Pace::Unpaced,
        }
    }

    /// The wait before the frame that makes it so many tokens in all.
    fn wait(self, tokens: u64) -> Option<Pin<Box<Sleep>>> {
        match self {
            Pace::Unpaced => None,
            Pace::Gap(pace) => Some(Box::pin(sleep(pace))),
            Pace::Speed(speed, began) => {
                Some(Box::pin(sleep_until(began + writing(tokens, speed))))
            }
        }
    }
}

/// The time that so many tokens take at that speed.
pub(super) fn writing(tokens: u64, per_second: NonZeroU64) -> Duration {
    Duration::from_secs(tokens) / u32::try_from(per_second.get()).unwrap_or(u32::MAX)
}

/// Where a stream's frames come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Made as they are taken.
    Frames(Box<Frames>),
    /// A whole answer, taken in two halves: what is left, and the size of a half. For faults in answers that do not
    /// stream.
    Halves(Bytes, usize),
}

impl Source {
    fn next(&mut self) -> Option<Frame> {
        match self {
            Source::Frames(frames) => frames.next(),
            Source::Halves(rest, half) => {
                let size = rest.len().min(*half);
                let tells_usage = size == rest.len();
                (size > 0).then(|| Frame {
                    bytes: rest.split_to(size),
                    tokens: 0,
                    tells_usage,
                })
            }
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Source::Frames(frames) => frames.is_done(),
            Source::Halves(rest, _) => rest.is_empty(),
        }
    }

    fn error(&self, code: Option<&str>) -> Bytes {
        match self {
            Source::Frames(frames) => frames.error(code),
            Source::Halves(..) => Bytes::new(),
        }
    }
}

/// Where a stream stands.
#[derive(Debug)]
pub(super) enum State {
    /// Takes the next frame.
    Running,
    /// Holds this frame until its time has come.
    Paced(Frame, Pin<Box<Sleep>>),
    /// Waits for its fault.
    Striking(Fault, Pin<Box<Sleep>>),
    /// Nothing comes any more, not even an end.
    Silent,
    /// At the end.
    Ended,
}

impl Body for SimulatedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, io::Error>>> {
        match self.get_mut() {
            SimulatedBody::Whole(bytes, ticket) => {
                if let Some(ticket) = ticket {
                    let failed = ticket.seen.status >= 400;
                    ticket.end(if failed {
                        Outcome::Error
                    } else {
                        Outcome::Complete
                    });
                }
                Poll::Ready(bytes.take().map(|bytes| Ok(BodyFrame::data(bytes))))
            }
            SimulatedBody::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            SimulatedBody::Whole(bytes, _) => bytes.is_none(),
            SimulatedBody::Stream(stream) => matches!(stream.state, State::Ended),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            SimulatedBody::Whole(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            SimulatedBody::Stream(_) => SizeHint::default(),
        }
    }
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<BodyFrame<Bytes>, io::Error>>> {
        loop {
            match &mut self.state {
                State::Ended => return Poll::Ready(None),
                // No waker: only the client can end this, by leaving.
                State::Silent => return Poll::Pending,
                State::Striking(fault, wait) => {
                    ready!(wait.as_mut().poll(cx));
                    let fault = *fault;
                    return self.strike(fault);
                }
                State::Paced(_, wait) => {
                    ready!(wait.as_mut().poll(cx));
                    let State::Paced(frame, _) = std::mem::replace(&mut self.state, State::Running)
                    else {
                        continue;
                    };
                    return self.hand_over(frame);
                }
                State::Running => {}
            }
            if let Some((after, fault)) = self.fault
                && self.ticket.seen.frames_sent >= after
            {
                match fault {
                    Fault::Cut(_) | Fault::Error => {
                        self.state = State::Striking(fault, Box::pin(sleep(BEFORE_FAULT)));
                        continue;
                    }
                    Fault::Hang | Fault::End => return self.strike(fault),
                }
            }
            let Some(frame) = self.source.next() else {
                return self.end(Bytes::new(), Outcome::Complete);
            };
            if frame.tokens > 0
                && let Some(wait) = self.pace.wait(self.ticket.seen.tokens_sent + frame.tokens)
            {
                self.state = State::Paced(frame, wait);
                continue;
            }
            return self.hand_over(frame);
        }
    }

    fn strike(&mut self, fault: Fault) -> Poll<Option<Result<BodyFrame<Bytes>, io::Error>>> {
        match fault {
            Fault::Hang => {
                self.state = State::Silent;
                Poll::Pending
            }
            Fault::End => self.end(Bytes::new(), Outcome::EndedEarly),
            Fault::Error => {
                let error = self.source.error(self.error_code.as_deref());
                self.end(error, Outcome::ErrorEvent)
            }
            Fault::Cut(by) => {
                if let (CutBy::Reset, Some(reset)) = (by, &self.reset) {
                    reset.store(true, Ordering::Relaxed);
                }
                self.state = State::Ended;
                self.ticket.end(Outcome::Cut);
                Poll::Ready(Some(Err(io::Error::other("cut in mid-answer, as asked"))))
            }
        }
    }

    fn hand_over(&mut self, frame: Frame) -> Poll<Option<Result<BodyFrame<Bytes>, io::Error>>> {
        let seen = &mut self.ticket.seen;
        seen.frames_sent += 1;
        seen.tokens_sent += frame.tokens;
        seen.usage_sent |= frame.tells_usage;
        // A fault that is still to come after the last frame must find the stream open.
        if self.source.is_done() && self.fault.is_none_or(|(after, _)| after > seen.frames_sent) {
            return self.end(frame.bytes, Outcome::Complete);
        }
        let bytes = match &mut self.encoder {
            Some(encoder) => encoder.pack(&frame.bytes)?,
            None => frame.bytes,
        };
        Poll::Ready(Some(Ok(BodyFrame::data(bytes))))
    }

    /// Ends the stream cleanly after these bytes.
    fn end(
        &mut self,
        last: Bytes,
        outcome: Outcome,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, io::Error>>> {
        self.state = State::Ended;
        self.ticket.end(outcome);
        let bytes = match self.encoder.take() {
            Some(mut encoder) => {
                let mut all = BytesMut::from(&*encoder.pack(&last)?);
                all.extend_from_slice(&encoder.finish()?);
                all.freeze()
            }
            None => last,
        };
        Poll::Ready((!bytes.is_empty()).then(|| Ok(BodyFrame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_speed_is_kept_over_the_whole_however_late_a_frame_was() {
        let began = Instant::now();
        let behaviour = Behaviour {
            tokens_per_second: NonZeroU64::new(100),
            ..Behaviour::default()
        };
        let pace = Pace::of(&behaviour);
        tokio::time::advance(Duration::from_millis(150)).await;
        for (tokens, millis) in [(10, 150), (20, 200), (25, 250)] {
            pace.wait(tokens).expect("a speed was asked for").await;
            assert_eq!(began.elapsed().as_millis(), millis, "{tokens} tokens");
        }
    }

    #[test]
    fn a_pace_wins_over_a_speed() {
        let behaviour = Behaviour {
            token_pace: Some(Duration::ZERO),
            tokens_per_second: NonZeroU64::new(1),
            ..Behaviour::default()
        };
        assert!(matches!(Pace::of(&behaviour), Pace::Unpaced));
    }
}
