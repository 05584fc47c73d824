//! The guide's load: which requests a day has, how large they are, and who sends them.
//!
//! The guide says shares and sums and no sizes. 1,000 requests of $0.018 make its $18 a day, and its sums (9, 5.40 and
//! 3.60 for 50, 30 and 20 %) say that a request costs the same whatever the task. At $3 and $15 per million tokens, the
//! price of a premium model then, $0.018 is what the sizes below cost, each in the proportion of its work.

use crate::prompts;

/// The kinds of work in the guide's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// Front end.
    Ui,
    /// Programming; what the guide calls development.
    Coding,
    /// Texts about programs.
    Documentation,
}

impl Work {
    /// In the order of the guide.
    pub(crate) const ALL: [Work; 3] = [Work::Ui, Work::Coding, Work::Documentation];

    /// The task as tollgate names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Work::Ui => "ui",
            Work::Coding => "coding",
            Work::Documentation => "documentation",
        }
    }

    /// Requests in ten.
    pub(crate) const fn tenths(self) -> usize {
        match self {
            Work::Ui => 5,
            Work::Coding => 3,
            Work::Documentation => 2,
        }
    }

    /// Tokens of the prompt, with what an agent sends along, and of the answer.
    pub(crate) const fn tokens(self) -> (u64, u64) {
        match self {
            // A component and its styles, and the component back.
            Work::Ui => (1500, 900),
            // Some files, and a change.
            Work::Coding => (3000, 600),
            // What is to be described, and a page about it.
            Work::Documentation => (500, 1100),
        }
    }

    /// The session of the guide's agent for such work.
    const fn session(self) -> &'static str {
        match self {
            Work::Ui => "ui_agent",
            Work::Coding => "coding_agent",
            Work::Documentation => "background_worker",
        }
    }

    const fn prompts(self) -> &'static [&'static str] {
        match self {
            Work::Ui => &prompts::UI,
            Work::Coding => &prompts::CODING,
            Work::Documentation => &prompts::DOCUMENTATION,
        }
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    /// What kind of work it is in truth; tollgate is not told and has to find out.
    pub(crate) work: Work,
    /// What the user wrote.
    pub(crate) prompt: &'static str,
    /// Who sends it.
    pub(crate) session: &'static str,
}

/// The order of ten requests.
const TEN: [Work; 10] = [
    Work::Ui,
    Work::Coding,
    Work::Ui,
    Work::Documentation,
    Work::Ui,
    Work::Coding,
    Work::Ui,
    Work::Documentation,
    Work::Coding,
    Work::Ui,
];

/// A day's requests.
pub(crate) fn day(requests: u32, one_session: bool) -> Vec<Job> {
    let mut seen = [0_usize; Work::ALL.len()];
    let works = TEN.iter().copied().cycle().take(requests as usize);
    works
        .map(|work| {
            let prompts = work.prompts();
            let number = &mut seen[work as usize];
            let prompt = prompts[*number % prompts.len()];
            *number += 1;
            Job {
                work,
                prompt,
                session: if one_session { "day" } else { work.session() },
            }
        })
        .collect()
}
