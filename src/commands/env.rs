//! `tollgate env`: the variables for the shell to take over.

use std::process::ExitCode;

use super::{client_env, load, print};
use crate::cli::{EnvArgs, Options, ShellSyntax};
use crate::failure::{Exit, Failure};

/// Prints one assignment for each variable.
///
/// # Errors
/// The configuration is wrong, the proxy's address is not known, or standard output fails.
pub fn run(args: &EnvArgs, options: &Options) -> Result<ExitCode, Failure> {
    let loaded = load(options)?;
    let mut variables = client_env::variables(&loaded, &args.tag)?;
    variables.extend(client_env::no_proxy(&loaded, &args.tag, |name| {
        std::env::var(name).ok()
    })?);
    let shell = args.shell.unwrap_or_else(own_shell);
    let lines: String = variables
        .iter()
        .map(|(name, value)| assignment(shell, name, value) + "\n")
        .collect();
    print(&lines)?;
    Ok(Exit::Success.into())
}

/// The shell that the user works in, as far as it tells.
fn own_shell() -> ShellSyntax {
    match std::env::var("SHELL") {
        Ok(path) if path.ends_with("fish") => ShellSyntax::Fish,
        Ok(path) if path.ends_with("pwsh") => ShellSyntax::PowerShell,
        Err(_) if cfg!(windows) => ShellSyntax::PowerShell,
        _ => ShellSyntax::Bash,
    }
}

/// Sets and exports a variable; the value is text for the shell whatever it holds.
fn assignment(shell: ShellSyntax, name: &str, value: &str) -> String {
    match shell {
        ShellSyntax::Bash => format!("export {name}='{}'", value.replace('\'', r"'\''")),
        ShellSyntax::Fish => format!(
            "set -gx {name} '{}'",
            value.replace('\\', r"\\").replace('\'', r"\'")
        ),
        ShellSyntax::PowerShell => format!("$env:{name} = '{}'", value.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_gets_out_of_its_quotes() {
        let value = r"a';touch x;'\";
        assert_eq!(
            assignment(ShellSyntax::Bash, "V", value),
            r"export V='a'\'';touch x;'\''\'"
        );
        assert_eq!(
            assignment(ShellSyntax::Fish, "V", value),
            r"set -gx V 'a\';touch x;\'\\'"
        );
        assert_eq!(
            assignment(ShellSyntax::PowerShell, "V", value),
            r"$env:V = 'a'';touch x;''\'"
        );
    }
}
