//! The configuration: the file as written, checked, turned into ready values.

pub mod settings;
