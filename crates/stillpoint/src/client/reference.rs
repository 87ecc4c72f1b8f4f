//! The reference of all commands as one Markdown document, made from the same description as the commands themselves.
//! `docs/reference/cli.md` is it; a test here says when that file is stale.

use super::{Trouble, code, print};
use crate::cli::Cli;
use clap::{Arg, ArgAction, Command, CommandFactory as _};
use std::{fmt::Write as _, process::ExitCode};

const HEAD: &str = "# Command line reference

Made from the program itself: `stillpoint reference >docs/reference/cli.md`. How it hangs together, with examples:
[the guide](../guide/cli.md).
";

/// Prints it.
pub(crate) fn show() -> Result<ExitCode, Trouble> {
    print(document().trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn document() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = HEAD.to_owned();
    let nouns: Vec<_> = root.get_subcommands().filter(|command| is_told(command)).collect();
    text.push_str("\n| command | |\n|---|---|\n");
    for noun in &nouns {
        let name = noun.get_name();
        let link = format!("[`{name}`](#{name})");
        line(&mut text, &format!("| {link} | {} |", summary(noun)));
    }
    text.push_str("\n## Options of client commands\n\nEach command below that asks a server has these, too.\n");
    let server = shared(&nouns);
    options(&mut text, server.iter().map(|name| find(&nouns, name)));
    for noun in &nouns {
        line(&mut text, &format!("\n## {}", noun.get_name()));
        paragraphs(&mut text, noun);
        if noun.has_subcommands() {
            for verb in noun.get_subcommands().filter(|command| is_told(command)) {
                leaves(&mut text, noun.get_name(), verb, &server);
            }
        } else {
            leaf(&mut text, noun.get_name(), noun, &server);
        }
    }
    text.push_str("\n## Exit codes\n\n```\n");
    text.push_str(code::HELP);
    text.push_str("\n```\n");
    text
}

fn is_told(command: &Command) -> bool {
    !command.is_hide_set() && command.get_name() != "help"
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// The first sentence about a command.
fn summary(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    first_line(&about).replace('|', "\\|")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn paragraphs(text: &mut String, command: &Command) {
    let about = command.get_long_about().or_else(|| command.get_about());
    if let Some(about) = about {
        line(text, &format!("\n{about}"));
    }
}

/// The names of options that all nouns with verbs share: those of the server.
fn shared<'c>(nouns: &[&'c Command]) -> Vec<&'c str> {
    let groups: Vec<Vec<&str>> = nouns
        .iter()
        .filter(|noun| noun.get_arguments().any(|arg| arg.get_id() == "url"))
        .map(|noun| {
            let own = noun.get_arguments().filter(|arg| arg.is_global_set());
            own.map(|arg| arg.get_id().as_str()).collect()
        })
        .collect();
    let mut all: Vec<&str> = Vec::new();
    for name in groups.iter().flatten() {
        if !all.contains(name) {
            all.push(name);
        }
    }
    all
}

/// The option of that name, of the first noun that has it.
fn find<'c>(nouns: &[&'c Command], name: &str) -> Option<&'c Arg> {
    let mut all = nouns.iter().flat_map(|noun| noun.get_arguments());
    all.find(|arg| arg.get_id() == name)
}

/// A verb, or the verbs of a noun of two words.
fn leaves(text: &mut String, noun: &str, command: &Command, server: &[&str]) {
    let name = format!("{noun} {}", command.get_name());
    if !command.has_subcommands() {
        line(text, &format!("\n### `stillpoint {name}`"));
        paragraphs(text, command);
        leaf(text, &name, command, server);
        return;
    }
    for verb in command.get_subcommands().filter(|command| is_told(command)) {
        leaves(text, &name, verb, server);
    }
}

fn leaf(text: &mut String, name: &str, command: &Command, server: &[&str]) {
    let mut usage = format!("stillpoint {name}");
    for arg in command.get_arguments().filter(|arg| is_own(arg, server)) {
        if arg.is_positional() {
            let value = value(arg);
            usage.push_str(&if arg.is_required_set() {
                format!(" {value}")
            } else {
                format!(" [{value}]")
            });
        } else if arg.is_required_set() {
            usage.push_str(&format!(" {}", flag(arg)));
        }
    }
    line(text, &format!("\n```\n{usage} [options]\n```"));
    options(
        text,
        command.get_arguments().filter(|arg| is_own(arg, server)).map(Some),
    );
    if let Some(help) = command.get_after_help() {
        line(text, &format!("\n```text\n{help}\n```"));
    }
}

fn is_own(arg: &Arg, server: &[&str]) -> bool {
    let is_help = matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::Version
    );
    // `backup` has the same options as its own.
    !is_help && !arg.is_hide_set() && !server.contains(&arg.get_id().as_str())
}

/// What an argument is called in a usage line.
fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        arg.get_id().as_str().to_uppercase()
    } else {
        names.join(" ")
    }
}

fn flag(arg: &Arg) -> String {
    let mut flag = String::new();
    if let Some(short) = arg.get_short() {
        flag.push_str(&format!("-{short}, "));
    }
    flag.push_str(&format!("--{}", arg.get_long().unwrap_or_default()));
    if arg.get_action().takes_values() {
        let is_optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
        let value = value(arg);
        flag.push_str(&if is_optional {
            format!("[={value}]")
        } else {
            format!(" {value}")
        });
    }
    flag
}

fn options<'c>(text: &mut String, all: impl Iterator<Item = Option<&'c Arg>>) {
    let mut rows = String::new();
    for arg in all.flatten() {
        let shown = if arg.is_positional() { value(arg) } else { flag(arg) };
        let help = arg.get_long_help().or_else(|| arg.get_help());
        let mut help = help.map(ToString::to_string).unwrap_or_default().replace('\n', " ");
        // Clap takes the last one away.
        if !help.ends_with('.') {
            help.push('.');
        }
        let values: Vec<_> = arg
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let defaults: Vec<_> = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        if arg.get_action().takes_values() {
            if !values.is_empty() {
                let _never = write!(help, " One of {}.", values.join(", "));
            }
            if !defaults.is_empty() {
                let _never = write!(help, " Default: {}.", defaults.join(", "));
            }
            if let Some(variable) = arg.get_env() {
                let _never = write!(help, " Variable: {}.", variable.to_string_lossy());
            }
        }
        line(
            &mut rows,
            &format!("| `{shown}` | {} |", help.replace('|', "\\|").trim()),
        );
    }
    if !rows.is_empty() {
        text.push_str("\n| | |\n|---|---|\n");
        text.push_str(&rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    #[test]
    fn the_reference_says_what_the_program_has() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md");
        let now = document();
        for word in [
            "### `stillpoint volume snapshot create`",
            "stillpoint vm show VM [options]",
        ] {
            assert!(now.contains(word), "{word}");
        }
        if std::env::var_os("STILLPOINT_REGENERATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &now).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == now,
            "docs/reference/cli.md is stale: run this test with STILLPOINT_REGENERATE=1"
        );
    }
}
