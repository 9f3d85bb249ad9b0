//! Prints help in the layout of spec/sctool.md 1.7 from the command tree.

use clap::{Arg, ArgAction, Command};

use crate::args::is_switch;

/// Columns of a help text; long flag texts are wrapped to it.
const WIDTH: usize = 110;

/// Help for the command at `path` below the root.
pub fn render(root: &Command, command: &Command, path: &[String]) -> String {
    let full = std::iter::once("sctool").chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let mut text = String::new();
    if path.is_empty() {
        text.push_str(&format!("Scylla Manager {}.\n\n", common::version::VERSION));
    }
    let long = command.get_long_about().or_else(|| command.get_about());
    text.push_str(&format!("{}\n\n", long.map(ToString::to_string).unwrap_or_default()));
    text.push_str(&usage(command, &full));
    if let Some(examples) = command.get_after_help() {
        // The source's line continuation takes the blanks of the first line away.
        text.push_str(&format!("\nExamples:\n  {}\n", examples.to_string().trim_start()));
    }
    let children: Vec<&Command> = command.get_subcommands().filter(|child| !child.is_hide_set()).collect();
    if !children.is_empty() {
        text.push_str(&format!("\nAvailable Commands:\n{}", commands(&children)));
    }
    if !path.is_empty() {
        text.push_str(&format!("\nFlags:\n{}", flags(command.get_opts(), true)));
    }
    text.push_str(&format!("\nGlobal Flags:\n{}", flags(root.get_opts(), path.is_empty())));
    if !children.is_empty() {
        text.push_str(&format!("\nUse \"{full} [command] --help\" for more information about a command.\n"));
    }
    text
}

fn usage(command: &Command, full: &str) -> String {
    let mut text = "Usage:\n".to_owned();
    if !command.is_subcommand_required_set() {
        let usage = command.get_overridden_usage().map_or_else(|| "[flags]".to_owned(), ToString::to_string);
        text.push_str(&format!("  {full} {usage}\n"));
    }
    if command.get_subcommands().next().is_some() {
        text.push_str(&format!("  {full} [command]\n"));
    }
    text
}

fn commands(children: &[&Command]) -> String {
    let width = children.iter().map(|child| child.get_name().len()).max().unwrap_or(0).max(11);
    let line = |child: &&Command| {
        let about = child.get_about().map(ToString::to_string).unwrap_or_default();
        format!("  {:width$} {about}\n", child.get_name())
    };
    children.iter().map(line).collect()
}

fn flags<'a>(args: impl Iterator<Item = &'a Arg>, with_help: bool) -> String {
    let mut all: Vec<(String, String, String)> = args.filter(|arg| !arg.is_hide_set()).map(flag).collect();
    if with_help {
        all.push(("help".to_owned(), "  -h, --help".to_owned(), "Print this text".to_owned()));
    }
    all.sort();
    let width = all.iter().map(|(_, left, _)| left.len()).max().unwrap_or(0) + 3;
    let line = |(_, left, help): &(String, String, String)| {
        let wrapped = wrap(help, WIDTH.saturating_sub(width)).join(&format!("\n{:width$}", ""));
        format!("{left:width$}{wrapped}\n")
    };
    all.iter().map(line).collect()
}

/// Sort key, left column, text.
fn flag(arg: &Arg) -> (String, String, String) {
    let long = arg.get_long().unwrap_or_default();
    let names = match arg.get_short() {
        Some(short) => format!("  -{short}, --{long}"),
        None => format!("      --{long}"),
    };
    let value = arg.get_value_names().and_then(|names| names.first()).map(|name| name.to_lowercase());
    let left = match (is_switch(arg), value) {
        (false, Some(value)) => format!("{names} {value}"),
        _ => names,
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default().replace('\n', " ");
    let repeats = matches!(arg.get_action(), ArgAction::Append) && !help.contains("Comma-separated");
    (long.to_owned(), left, if repeats { format!("{help} (repeatable)") } else { help })
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}
