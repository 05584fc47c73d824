//! What the subcommands do, one file each. They return text; printing it is main's.

pub mod usage;
