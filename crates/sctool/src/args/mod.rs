//! Rewrites a command line into the one canonical form that clap is given.
//!
//! The original's flag rules (spec/sctool.md 1.6) are those of another parser: `-L=value`, booleans that take a
//! value only with `=`, flags before the subcommand, its own error texts. Rather than bend clap to each of them,
//! this module resolves words against the clap command tree (the only definition of names and types) and hands
//! clap nothing but `--long=value` words behind the subcommand path, with arguments after `--`. So clap is left
//! with what it does best: typed values, help texts, completion scripts.
//!
//! A flag name must mean the same kind (switch or value) in the whole tree, because it may stand before the
//! subcommand; a test in `cli` checks that.

mod error;
mod suggest;

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};

use clap::{Arg, Command};

pub use self::error::ArgError;
pub use self::suggest::nearest;
use crate::values::{BOOLEAN_TEXTS, Switch};

/// Where a command line leads in the command tree.
#[derive(Debug)]
pub struct Located<'t> {
    /// Names below the root, canonical (aliases resolved): `["backup", "update"]`.
    pub path: Vec<String>,
    /// The command at the end of the path.
    pub command: &'t Command,
    /// The user asked for help by the word `help` in front.
    pub help: bool,
    words: Vec<Word>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// A flag, or the value that follows one.
    Flag(String),
    Positional(String),
    /// Everything behind `--` is an argument, whatever it looks like.
    EndOfFlags,
}

/// A command line in canonical form.
#[derive(Debug)]
pub struct Resolved {
    /// What clap parses, program name first.
    pub argv: Vec<String>,
    /// `-h` or `--help` was given.
    pub help: bool,
    /// Long names of the flags that were given on the command line.
    pub given: BTreeSet<String>,
}

/// Finds the subcommand that `words` (without the program name) name.
pub fn locate<'t>(root: &'t Command, words: &[String]) -> Result<Located<'t>, ArgError> {
    let mut at = Located { path: Vec::new(), command: root, help: false, words: Vec::new() };
    let mut descending = true;
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            at.words.push(Word::EndOfFlags);
            at.words.extend(rest.map(|word| Word::Positional(word.clone())));
            break;
        }
        if is_flag(word) {
            at.words.push(Word::Flag(word.clone()));
            if takes_next_word(root, at.command, word, rest.as_slice())
                && let Some(value) = rest.next()
            {
                at.words.push(Word::Flag(value.clone()));
            }
        } else if descending {
            descending = descend(root, &mut at, word)?;
        } else {
            at.words.push(Word::Positional(word.clone()));
        }
    }
    Ok(at)
}

/// Follows one word down the tree; false if it is an argument instead, which ends the path.
fn descend<'t>(root: &'t Command, at: &mut Located<'t>, word: &str) -> Result<bool, ArgError> {
    if at.path.is_empty() && word == "help" && !at.help {
        at.help = true;
        return Ok(true);
    }
    if at.path.is_empty() && word == "1-1-restore" {
        // The original nests it below `restore`; at the root it is an alias.
        return Ok(descend(root, at, "restore")? && descend(root, at, word)?);
    }
    if let Some(child) = at.command.find_subcommand(word) {
        at.path.push(child.get_name().to_owned());
        at.command = child;
        return Ok(true);
    }
    if at.command.is_subcommand_required_set() {
        return Err(unknown_command(root, at.command, &at.path, word));
    }
    at.words.push(Word::Positional(word.to_owned()));
    Ok(false)
}

fn unknown_command(root: &Command, command: &Command, path: &[String], word: &str) -> ArgError {
    let known = command.get_subcommands().filter(|c| !c.is_hide_set()).map(Command::get_name);
    let path = std::iter::once(root.get_name()).chain(path.iter().map(String::as_str)).collect::<Vec<_>>();
    ArgError::UnknownCommand {
        word: word.to_owned(),
        path: path.join(" "),
        hint: nearest(word, known).map(|name| [&path[1..], &[name]].concat().join(" ")),
    }
}

/// Reads the flags of a located command and writes the canonical command line.
///
/// `defaults` are flag values that count as given when the command has the flag and the line does not set it
/// (`cluster` from the environment).
pub fn resolve(
    root: &Command,
    located: &Located<'_>,
    defaults: &BTreeMap<&str, String>,
) -> Result<Resolved, ArgError> {
    let mut reader = Reader { root, command: located.command, values: Vec::new(), help: located.help };
    let mut positionals = Vec::new();
    let mut rest = located.words.iter();
    while let Some(word) = rest.next() {
        match word {
            Word::EndOfFlags => {}
            Word::Positional(text) => positionals.push(text.clone()),
            Word::Flag(text) => {
                let next = rest.as_slice().first().and_then(|word| match word {
                    Word::Flag(value) => Some(value.as_str()),
                    Word::Positional(_) | Word::EndOfFlags => None,
                });
                if reader.read(text, next)? {
                    rest.next();
                }
            }
        }
    }
    if !reader.help {
        check_count(root, located, &positionals)?;
    }
    Ok(reader.finish(located, positionals, defaults))
}

fn check_count(root: &Command, located: &Located<'_>, given: &[String]) -> Result<(), ArgError> {
    let wanted: Vec<&Arg> = located.command.get_positionals().collect();
    let required = wanted.iter().filter(|arg| arg.is_required_set()).count();
    match (wanted.len(), given.len()) {
        (0, 0) => Ok(()),
        (0, _) => Err(unknown_command(root, located.command, &located.path, &given[0])),
        (most, got) if got > most && required == 0 => Err(ArgError::TooMany { limit: most, received: got }),
        (most, got) if got > most || got < required => {
            Err(ArgError::WrongCount { wanted: most, received: got })
        }
        _ => Ok(()),
    }
}

/// Required flags of `command` that `resolved` does not set, sorted by name.
pub fn missing_flags(command: &Command, resolved: &Resolved) -> Result<(), ArgError> {
    let mut missing: Vec<String> = command
        .get_opts()
        .filter(|arg| arg.is_required_set())
        .filter_map(Arg::get_long)
        .filter(|long| !resolved.argv.iter().any(|word| word.starts_with(&format!("--{long}="))))
        .map(str::to_owned)
        .collect();
    missing.sort();
    if missing.is_empty() { Ok(()) } else { Err(ArgError::MissingFlags(missing)) }
}

struct Reader<'t> {
    root: &'t Command,
    command: &'t Command,
    /// Flags with their values in the order given; `true` marks flags of the root.
    values: Vec<(&'t Arg, bool, String)>,
    help: bool,
}

impl<'t> Reader<'t> {
    /// Reads one flag word; true if `next` was used as its value.
    fn read(&mut self, word: &str, next: Option<&str>) -> Result<bool, ArgError> {
        match word.strip_prefix("--") {
            Some(long) => self.read_long(long, next),
            None => self.read_shorts(word, next),
        }
    }

    fn read_long(&mut self, word: &str, next: Option<&str>) -> Result<bool, ArgError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if name == "help" {
            self.help = switch_value("-h, --help", value.unwrap_or("true"))?;
            return Ok(false);
        }
        let Some((arg, of_root)) = self.find(|arg| has_long(arg, name)) else {
            let hint = nearest(name, self.long_names()).map(|name| format!("--{name}"));
            return Err(ArgError::UnknownFlag { name: name.to_owned(), hint });
        };
        match (value, is_switch(arg)) {
            (Some(value), _) => {
                self.values.push((arg, of_root, value.to_owned()));
                Ok(false)
            }
            (None, true) => Ok(self.read_switch(arg, of_root, next)),
            (None, false) => {
                let value = next.ok_or_else(|| ArgError::LongNeedsArgument { name: name.to_owned() })?;
                self.values.push((arg, of_root, value.to_owned()));
                Ok(true)
            }
        }
    }

    fn read_shorts(&mut self, word: &str, next: Option<&str>) -> Result<bool, ArgError> {
        let group = &word[1..];
        self.refuse_long_behind_one_dash(word)?;
        let chars = group.char_indices();
        for (at, short) in chars {
            let after = &group[at + short.len_utf8()..];
            if short == 'h' {
                self.help = true;
                continue;
            }
            let Some((arg, of_root)) = self.find(|arg| has_short(arg, short)) else {
                let token = format!("-{}", &group[at..]);
                return Err(ArgError::UnknownShorthand { short, token, hint: self.long_hint(group) });
            };
            if let Some(value) = after.strip_prefix('=') {
                self.values.push((arg, of_root, value.to_owned()));
                return Ok(false);
            }
            if is_switch(arg) {
                if after.is_empty() {
                    return Ok(self.read_switch(arg, of_root, next));
                }
                self.values.push((arg, of_root, "true".to_owned()));
                continue;
            }
            if !after.is_empty() {
                self.values.push((arg, of_root, after.to_owned()));
                return Ok(false);
            }
            let token = format!("-{}", &group[at..]);
            let value = next.ok_or(ArgError::ShortNeedsArgument { short, token })?;
            self.values.push((arg, of_root, value.to_owned()));
            return Ok(true);
        }
        Ok(false)
    }

    /// A switch at the end of its word: true if the 2.x form with a separate value was used (7.2).
    fn read_switch(&mut self, arg: &'t Arg, of_root: bool, next: Option<&str>) -> bool {
        let separate = next.filter(|next| takes_separate_value(arg) && BOOLEAN_TEXTS.contains(next));
        self.values.push((arg, of_root, separate.unwrap_or("true").to_owned()));
        separate.is_some()
    }

    /// `-cluster prod` would silently read as `-c luster`: nobody means that.
    fn refuse_long_behind_one_dash(&self, word: &str) -> Result<(), ArgError> {
        let name = word[1..].split('=').next().unwrap_or_default();
        let exact = name.chars().count() > 1 && self.long_names().any(|long| long == name);
        match name.chars().next() {
            Some(short) if exact => Err(ArgError::UnknownShorthand {
                short,
                token: word.to_owned(),
                hint: Some(format!("--{name}")),
            }),
            _ => Ok(()),
        }
    }

    fn long_hint(&self, group: &str) -> Option<String> {
        let name = group.split('=').next().unwrap_or_default();
        let close = (name.chars().count() > 2).then(|| nearest(name, self.long_names())).flatten();
        close.map(|long| format!("--{long}"))
    }

    fn find(&self, wanted: impl Fn(&Arg) -> bool) -> Option<(&'t Arg, bool)> {
        let own = self.command.get_opts().find(|arg| wanted(arg)).map(|arg| (arg, false));
        own.or_else(|| self.root.get_opts().find(|arg| wanted(arg)).map(|arg| (arg, true)))
    }

    fn long_names(&self) -> impl Iterator<Item = &'t str> {
        let globals = self.root.get_opts();
        self.command.get_opts().chain(globals).filter_map(Arg::get_long).chain(std::iter::once("help"))
    }

    fn finish(
        self,
        located: &Located<'_>,
        positionals: Vec<String>,
        defaults: &BTreeMap<&str, String>,
    ) -> Resolved {
        let given: BTreeSet<String> = self.values.iter().map(|(arg, ..)| long_of(arg)).collect();
        let mut argv = vec![self.root.get_name().to_owned()];
        let is_root = located.path.is_empty();
        argv.extend(self.words_of(|of_root| of_root || is_root));
        argv.extend(located.path.iter().cloned());
        if !is_root {
            argv.extend(self.words_of(|of_root| !of_root));
        }
        for (long, value) in defaults {
            let known = located.command.get_opts().any(|arg| arg.get_long() == Some(long));
            if known && !given.contains(*long) {
                argv.push(format!("--{long}={value}"));
            }
        }
        if !positionals.is_empty() {
            argv.push("--".to_owned());
            argv.extend(positionals);
        }
        Resolved { argv, help: self.help, given }
    }

    /// The flags of one level as `--long=value`. Of a flag that is no list, the last value counts.
    fn words_of(&self, level: impl Fn(bool) -> bool) -> Vec<String> {
        let chosen: Vec<_> = self.values.iter().filter(|(_, of_root, _)| level(*of_root)).collect();
        let is_last =
            |at: usize, arg: &Arg| !chosen[at + 1..].iter().any(|(other, ..)| other.get_id() == arg.get_id());
        let words = chosen.iter().enumerate().filter(|(at, (arg, ..))| {
            matches!(arg.get_action(), clap::ArgAction::Append) || is_last(*at, arg)
        });
        words.map(|(_, (arg, _, value))| format!("--{}={value}", long_of(arg))).collect()
    }
}

fn switch_value(flag: &str, text: &str) -> Result<bool, ArgError> {
    text.parse::<Switch>().map(|switch| switch.0).map_err(|error| ArgError::InvalidValue {
        value: text.to_owned(),
        flag: flag.to_owned(),
        reason: error.to_string(),
    })
}

fn is_flag(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-')
}

/// True if the flag's type is a boolean: it takes a value only behind `=`.
pub fn is_switch(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<Switch>()
}

/// `--enabled` of the update commands also takes its value as the next word, as in 2.x; they are the commands
/// on which it has the short form `-e`.
fn takes_separate_value(arg: &Arg) -> bool {
    arg.get_long() == Some("enabled") && arg.get_short().is_some()
}

fn has_long(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
}

fn has_short(arg: &Arg, short: char) -> bool {
    arg.get_short() == Some(short)
}

fn long_of(arg: &Arg) -> String {
    arg.get_long().unwrap_or_else(|| arg.get_id().as_str()).to_owned()
}

/// Whether the flag `word` uses the following word as its value, before the subcommand is fully known.
fn takes_next_word(root: &Command, command: &Command, word: &str, rest: &[String]) -> bool {
    let find = |wanted: &dyn Fn(&Arg) -> bool| {
        find_below(command, wanted).or_else(|| root.get_opts().find(|arg| wanted(arg)))
    };
    let next_is_boolean = || rest.first().is_some_and(|next| BOOLEAN_TEXTS.contains(&next.as_str()));
    let wants = |arg: &Arg| {
        if is_switch(arg) { takes_separate_value(arg) && next_is_boolean() } else { true }
    };
    if let Some(long) = word.strip_prefix("--") {
        return !long.contains('=') && find(&|arg| has_long(arg, long)).is_some_and(wants);
    }
    if find(&|arg| has_long(arg, &word[1..])).is_some() && word.len() > 2 {
        return false; // refused later, with a hint
    }
    for (at, short) in word.char_indices().skip(1) {
        let last = at + short.len_utf8() == word.len();
        match find(&|arg| has_short(arg, short)) {
            Some(arg) if is_switch(arg) && !last => {}
            Some(arg) => return last && wants(arg),
            None if short == 'h' => {}
            None => return false,
        }
    }
    false
}

/// A flag of `command` itself, else of any command below it.
fn find_below<'t>(command: &'t Command, wanted: &dyn Fn(&Arg) -> bool) -> Option<&'t Arg> {
    let own = command.get_opts().find(|arg| wanted(arg));
    own.or_else(|| command.get_subcommands().find_map(|child| find_below(child, wanted)))
}

/// Turns clap's refusal of a value into the original's words.
pub fn explain(error: &clap::Error, command: &Command) -> ArgError {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    use std::error::Error as _;

    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match (error.kind(), text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) {
        (ErrorKind::ValueValidation, Some(arg), Some(value)) => ArgError::InvalidValue {
            value: value.to_owned(),
            flag: flag_display(arg, command),
            reason: error.source().map(ToString::to_string).unwrap_or_default(),
        },
        _ => ArgError::Other(error.render().to_string().trim_start_matches("error: ").trim().to_owned()),
    }
}

/// `-i, --interval` for clap's `--interval <INTERVAL>`.
fn flag_display(shown: &str, command: &Command) -> String {
    let long = shown.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default();
    let short = command.get_opts().find(|arg| arg.get_long() == Some(long)).and_then(Arg::get_short);
    match short {
        Some(short) => format!("-{short}, --{long}"),
        None => format!("--{long}"),
    }
}
