//! `tollgate init`: a commented config file to start from.
//!
//! Without a preset it is the reference configuration with every setting switched off: what a user does not touch goes on
//! following the defaults of later versions. A preset is a short file of its own.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use crate::cli::InitArgs;
use crate::config::REFERENCE;
use crate::failure::{Exit, Failure};

/// Writes the file; one that exists only with `--force`.
///
/// # Errors
/// The file exists or cannot be written.
pub fn run(args: &InitArgs) -> Result<ExitCode, Failure> {
    let text = match args.preset {
        Some(preset) => Cow::Borrowed(preset.text()),
        None => Cow::Owned(switched_off(REFERENCE)),
    };
    let path = args.path.display();
    let mut options = OpenOptions::new();
    options.write(true);
    // `create_new` looks and creates in one step, so nothing can be overwritten in between.
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options
        .open(&args.path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            let _ = writeln!(
                anstream::stderr(),
                "wrote {path}; `tollgate check` shows what it means"
            );
            Ok(Exit::Success.into())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Failure::usage(format!("{path} exists")).hint("--force overwrites it"))
        }
        Err(error) => Err(Failure::new(format!("cannot write {path}")).because(error)),
    }
}

/// Puts a `#` before every setting. Sections stay, so that a setting can be switched on where it stands.
fn switched_off(reference: &str) -> String {
    let intro_end = reference.find("\n\n# Looked for").unwrap_or(0);
    let intro = "# tollgate: configuration.\n#\n# Every setting is switched off and shows its default: remove the # before \
                 those that you change.";
    let mut text = intro.to_owned();
    for line in reference[intro_end..].lines().skip(1) {
        let setting = line.starts_with(|first: char| first.is_ascii_alphanumeric());
        text.push('\n');
        text.push_str(if setting { "#" } else { "" });
        text.push_str(line);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_changes_nothing_until_something_is_switched_on() {
        let text = switched_off(REFERENCE);
        let table: toml::Table = text.parse().expect("TOML");
        for (name, section) in &table {
            for (key, value) in section.as_table().into_iter().flatten() {
                assert!(
                    value.as_table().is_some_and(toml::Table::is_empty),
                    "{name}.{key} is {value}"
                );
            }
        }
        assert!(text.contains("\n#listen = \"127.0.0.1:8402\"\n"));
        assert!(text.starts_with("# tollgate: configuration.\n"));
        assert!(
            !text.contains("reference configuration"),
            "the intro of the reference is replaced"
        );
        assert!(text.contains("# Looked for, first found wins"));
    }
}
