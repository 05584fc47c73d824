//! Client keys of mode `keys`: how they look, how long they hold, the file they are kept in, and the set that the
//! running proxy asks. The commands that make them are in [`crate::commands::keys`].
//!
//! ```text
//! tg_<id>_<secret>   what a client shows; told once, never stored
//! <id>               finds the key in the file
//! SHA-256            of the whole text; the file holds nothing else of it
//! ```
//!
//! Time is an argument, in Unix milliseconds.

mod file;
mod key;
mod keyring;
mod roster;
mod stamp;
mod text;

pub use self::file::{KeyFile, KeyFileError};
pub use self::key::{Key, NameError, Rejected, State, StoredSecret};
pub use self::keyring::{Keyring, Refreshed};
pub use self::roster::{KeyError, Keys, NewKey};
pub(crate) use self::stamp::Stamp;
pub use self::text::{KeyText, NoRandomness, PREFIX};
