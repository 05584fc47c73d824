//! Chat Completions as chunks, with each provider's own way to begin, to end and to tell its usage.

use std::fmt;

use bytes::Bytes;

use super::ask::OpenAiAsk;
use super::behaviour::Flavour;
use super::chat::{call_id, finish_reason, head, reasoning_field};
use super::chat_usage::{Timings, UsageText};
use super::frames::{Event, Part, Queue, Writer};
use super::reply::{Finish, Reply, json_string};
use super::text::Tokens;

/// The stream of chunks.
#[derive(Debug)]
pub(super) struct Stream {
    /// Beginning of every chunk, up to its choices.
    head: String,
    /// Whether the extra chunk with the usage was asked for.
    include_usage: bool,
    obfuscation: bool,
    /// Output tokens told so far, in all choices.
    told: u64,
}

impl Stream {
    /// A stream that honours the request's options.
    pub(super) fn new(reply: &Reply, ask: &OpenAiAsk<'_>) -> Self {
        Self {
            head: head(reply, "chat.completion.chunk"),
            include_usage: ask.include_usage && reply.tells_usage,
            obfuscation: !ask.no_obfuscation && reply.flavour == Flavour::OpenAi,
            told: 0,
        }
    }

    /// A chunk with one choice.
    fn chunk(
        &self,
        reply: &Reply,
        out: &mut Queue,
        index: u64,
        delta: fmt::Arguments<'_>,
        finish: Option<Finish>,
    ) {
        let head = &self.head;
        let finish_text = match finish {
            Some(finish) => format!("\"{}\"", finish_reason(finish)),
            None => "null".to_owned(),
        };
        let tail = self.tail(reply, index, finish.is_some());
        let logprobs = match reply.flavour {
            Flavour::OpenAi | Flavour::Azure => r#""logprobs":null,"#,
            _ => "",
        };
        let native = match (reply.flavour, finish.is_some()) {
            (Flavour::OpenRouter, true) => format!(r#","native_finish_reason":{finish_text}"#),
            (Flavour::OpenRouter, false) => r#","native_finish_reason":null"#.to_owned(),
            _ => String::new(),
        };
        let text = format_args!(
            "data: {head}\"choices\":[{{\"index\":{index},\"delta\":{{{delta}}},{logprobs}\"finish_reason\":{finish_text}{native}}}]{tail}}}\n\n"
        );
        // The last choice's finish chunk is where some flavours put the figures.
        let last = finish.is_some() && index + 1 == reply.choices;
        let tells = match reply.flavour {
            Flavour::Groq | Flavour::Mistral | Flavour::Together => last,
            Flavour::LlamaCpp => last && !self.include_usage,
            _ => false,
        };
        if tells {
            out.usage_frame(text)
        } else {
            out.frame(text)
        }
    }

    /// What follows the choices of a chunk.
    fn tail(&self, reply: &Reply, index: u64, finishing: bool) -> String {
        let last = finishing && index + 1 == reply.choices && reply.tells_usage;
        match reply.flavour {
            Flavour::Mistral | Flavour::Together if last => {
                format!(r#","usage":{}"#, UsageText(reply))
            }
            Flavour::Groq if last => {
                format!(
                    r#","x_groq":{{"id":"req_sim{}","usage":{}}}"#,
                    reply.id,
                    UsageText(reply)
                )
            }
            Flavour::LlamaCpp if last && !self.include_usage => {
                format!(r#","timings":{}"#, Timings(&reply.usage))
            }
            Flavour::Vllm if reply.tells_usage => {
                let (input, told) = (reply.usage.input, self.told);
                format!(
                    r#","usage":{{"prompt_tokens":{input},"total_tokens":{},"completion_tokens":{told}}}"#,
                    input + told
                )
            }
            Flavour::OpenAi | Flavour::Azure | Flavour::DeepSeek | Flavour::Xai => {
                let usage = if self.include_usage {
                    r#","usage":null"#
                } else {
                    ""
                };
                // Padding of a length that follows from the place, so that the same request gives the same bytes.
                let padding = "tollgatetollgate";
                match self.obfuscation {
                    true => format!(
                        r#"{usage},"obfuscation":"{}""#,
                        &padding[..1 + (self.told as usize * 7) % (padding.len() - 1)]
                    ),
                    false => usage.to_owned(),
                }
            }
            _ => String::new(),
        }
    }

    fn open(&self, reply: &Reply, out: &mut Queue) {
        match reply.flavour {
            Flavour::OpenRouter => {
                out.frame(format_args!(": OPENROUTER PROCESSING\n\n"));
                out.frame(format_args!(": OPENROUTER PROCESSING\n\n"));
                return;
            }
            Flavour::DeepSeek => out.frame(format_args!(": keep-alive\n\n")),
            Flavour::Azure => out.frame(format_args!(
                "data: {{\"choices\":[],\"created\":0,\"id\":\"\",\"model\":\"\",\"object\":\"\",\"prompt_filter_results\":[{{\"prompt_index\":0,\"content_filter_results\":{{}}}}]}}\n\n"
            )),
            _ => {}
        }
        let content = if reply.tool.is_some() || reply.flavour == Flavour::LlamaCpp {
            "null"
        } else {
            "\"\""
        };
        for index in 0..reply.choices {
            match reply.flavour {
                Flavour::OpenAi => self.chunk(
                    reply,
                    out,
                    index,
                    format_args!(r#""role":"assistant","content":{content},"refusal":null"#),
                    None,
                ),
                _ => self.chunk(
                    reply,
                    out,
                    index,
                    format_args!(r#""role":"assistant","content":{content}"#),
                    None,
                ),
            }
        }
    }

    fn close(&self, reply: &Reply, out: &mut Queue) {
        for index in 0..reply.choices {
            let finish = Some(reply.finish);
            match reply.flavour {
                Flavour::OpenRouter => {
                    self.chunk(
                        reply,
                        out,
                        index,
                        format_args!(r#""role":"assistant","content":"""#),
                        finish,
                    );
                }
                Flavour::Mistral => {
                    self.chunk(reply, out, index, format_args!(r#""content":"""#), finish)
                }
                _ => self.chunk(reply, out, index, format_args!(""), finish),
            }
        }
        let head = &self.head;
        match reply.flavour {
            Flavour::OpenRouter if reply.tells_usage => out.usage_frame(format_args!(
                "data: {head}\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"finish_reason\":null,\"native_finish_reason\":null}}],\"usage\":{}}}\n\n",
                UsageText(reply)
            )),
            Flavour::Vllm if reply.tells_usage => {
                out.usage_frame(format_args!("data: {head}\"choices\":[],\"usage\":{}}}\n\n", UsageText(reply)));
            }
            Flavour::LlamaCpp if self.include_usage => out.usage_frame(format_args!(
                "data: {head}\"choices\":[],\"usage\":{},\"timings\":{}}}\n\n",
                UsageText(reply),
                Timings(&reply.usage)
            )),
            Flavour::OpenAi | Flavour::Azure | Flavour::DeepSeek | Flavour::Xai if self.include_usage => {
                out.usage_frame(format_args!("data: {head}\"choices\":[],\"usage\":{}}}\n\n", UsageText(reply)));
            }
            _ => {}
        }
        out.frame(format_args!("data: [DONE]\n\n"));
    }
}

impl Writer for Stream {
    fn write(&mut self, reply: &Reply, event: Event, out: &mut Queue) {
        match event {
            Event::Open => self.open(reply, out),
            Event::PartOpen(_, Part::Tool) => {
                if let Some(tool) = &reply.tool {
                    let name = json_string(&tool.name);
                    for index in 0..reply.choices {
                        let id = call_id(reply, index);
                        self.chunk(
                            reply,
                            out,
                            index,
                            format_args!(
                                r#""tool_calls":[{{"index":0,"id":"{id}","type":"function","function":{{"name":{name},"arguments":""}}}}]"#
                            ),
                            None,
                        );
                    }
                }
            }
            Event::Delta(_, part, from, to) => {
                let told = if part == Part::Tool {
                    reply.choices
                } else {
                    (to - from) * reply.choices
                };
                self.told = (self.told + told).min(reply.usage.output);
                for index in 0..reply.choices {
                    match (part, &reply.tool) {
                        (Part::Reasoning, _) => {
                            if let Some(field) = reasoning_field(reply.flavour) {
                                self.chunk(
                                    reply,
                                    out,
                                    index,
                                    format_args!(r#""{field}":"{}""#, Tokens(from, to)),
                                    None,
                                );
                            }
                        }
                        (Part::Tool, Some(tool)) => {
                            let piece = json_string(&tool.arguments[from as usize..to as usize]);
                            self.chunk(
                                reply,
                                out,
                                index,
                                format_args!(r#""tool_calls":[{{"index":0,"function":{{"arguments":{piece}}}}}]"#),
                                None,
                            );
                        }
                        _ if reply.flavour == Flavour::OpenRouter => self.chunk(
                            reply,
                            out,
                            index,
                            format_args!(r#""role":"assistant","content":"{}""#, Tokens(from, to)),
                            None,
                        ),
                        _ => self.chunk(
                            reply,
                            out,
                            index,
                            format_args!(r#""content":"{}""#, Tokens(from, to)),
                            None,
                        ),
                    }
                }
            }
            Event::PartOpen(..) | Event::PartClose(..) => {}
            Event::Close => {
                self.told = reply.usage.output;
                self.close(reply, out);
            }
        }
    }

    fn error(&self, reply: &Reply, code: Option<&str>) -> Bytes {
        match reply.flavour {
            Flavour::OpenRouter => format!(
                "data: {}\"error\":{{\"code\":502,\"message\":\"Provider disconnected\",\"metadata\":{{\"provider_name\":\"Simulated\"}}}},\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"\"}},\"finish_reason\":\"error\"}}]}}\n\n",
                self.head
            )
            .into(),
            _ => stream_error(code),
        }
    }
}

/// The frame with which OpenAI's unnamed streams tell of an error.
pub(super) fn stream_error(code: Option<&str>) -> Bytes {
    let code = code.map_or_else(|| "null".to_owned(), json_string);
    format!(
        "data: {{\"error\":{{\"message\":\"The server had an error while processing your request. Sorry about that!\",\"type\":\"server_error\",\"param\":null,\"code\":{code}}}}}\n\n"
    )
    .into()
}
