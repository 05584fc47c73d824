//! Whatever comes.
