//! How results are written: tables for people, JSON and CSV for programs.

use clap::{Args, ValueEnum};

/// How a result is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: amounts of money are decimal strings.
    Json,
    /// For spreadsheets.
    Csv,
}

/// The flags that choose a format.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct FormatArgs {
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Same as --format csv
    #[arg(long, conflicts_with_all = ["format", "json"])]
    pub csv: bool,
}

impl FormatArgs {
    /// The format that is asked for.
    pub const fn chosen(self) -> Format {
        match self {
            FormatArgs { json: true, .. } => Format::Json,
            FormatArgs { csv: true, .. } => Format::Csv,
            FormatArgs { format, .. } => format,
        }
    }
}

/// A name without control characters: names come from clients, and a terminal obeys what it is sent.
pub(super) fn printable(name: &str) -> String {
    name.chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{FFFD}'
            } else {
                letter
            }
        })
        .collect()
}

/// A table's lines without the blanks at their ends.
pub(super) fn lines(table: &comfy_table::Table) -> String {
    table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// Lines of CSV.
pub(super) fn csv<'a>(
    header: impl IntoIterator<Item = &'a str>,
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let into_memory = "writing into memory cannot fail";
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header).expect(into_memory);
    for row in rows {
        writer.write_record(row).expect(into_memory);
    }
    let bytes = writer.into_inner().expect(into_memory);
    String::from_utf8(bytes).expect("names and numbers are UTF-8")
}
