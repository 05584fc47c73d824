//! The commands of the program, one file each: arguments in, exit out.

pub mod simulate;
