//! Rules of the line.
