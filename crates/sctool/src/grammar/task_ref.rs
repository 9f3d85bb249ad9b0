//! Task references: `<type>`, `<type>/<uuid>`, `<type>/<name>`, and what to say when none fits (spec/sctool.md 3.9).

use std::fmt;
use std::str::FromStr;

use common::api::manager::TaskListItem;
use common::ids::TaskId;
use common::task::TaskType;

/// A reference as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRef {
    pub task_type: TaskType,
    pub which: Which,
}

/// How the task of a type is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The only enabled one.
    Only,
    Id(TaskId),
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskRefError {
    #[error("unknown task type {0}")]
    UnknownType(String),
    #[error("no tasks of type {0}")]
    None(TaskType),
    #[error("task ambiguity, use one of:\n{}", listed(.0))]
    Ambiguous(Vec<String>),
    #[error("not found, did you mean {0}")]
    Nearest(String),
    #[error("not found, use one of:\n{}", listed(.0))]
    NotFound(Vec<String>),
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("- {name}")).collect::<Vec<_>>().join("\n")
}

impl FromStr for TaskRef {
    type Err = TaskRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `tasks -a` marks disabled tasks with a star; people copy it along.
        let text = text.strip_prefix('*').unwrap_or(text);
        let (kind, rest) = match text.split_once('/') {
            Some((kind, rest)) => (kind, rest),
            None => (text, ""),
        };
        let task_type = kind.parse().map_err(|_| TaskRefError::UnknownType(kind.to_owned()))?;
        let which = match rest.parse() {
            _ if rest.is_empty() => Which::Only,
            Ok(id) => Which::Id(id),
            Err(_) => Which::Name(rest.to_owned()),
        };
        Ok(Self { task_type, which })
    }
}

/// A task that is known to exist, or at least named by its ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTask {
    pub task_type: TaskType,
    pub id: TaskId,
    /// Empty if the task has none or was named by its ID.
    pub name: String,
}

impl fmt::Display for FoundTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&display(self.task_type, self.id, &self.name))
    }
}

/// `<type>/<name>`, or with the ID where there is no name.
pub fn display(task_type: TaskType, id: TaskId, name: &str) -> String {
    if name.is_empty() { format!("{task_type}/{id}") } else { format!("{task_type}/{name}") }
}

/// Chooses the task that `which` means among all tasks of its type.
pub fn choose(task_type: TaskType, which: &Which, tasks: &[TaskListItem]) -> Result<FoundTask, TaskRefError> {
    let found = |item: &TaskListItem| FoundTask { task_type, id: item.task.id, name: item.task.name.clone() };
    match which {
        Which::Id(id) => Ok(FoundTask { task_type, id: *id, name: String::new() }),
        Which::Only => match tasks {
            [] => Err(TaskRefError::None(task_type)),
            [only] => Ok(found(only)),
            several => Err(TaskRefError::Ambiguous(references(task_type, several))),
        },
        Which::Name(name) => match tasks.iter().find(|item| item.task.name == *name) {
            Some(item) => Ok(found(item)),
            None => Err(not_found(task_type, name, tasks)),
        },
    }
}

fn references(task_type: TaskType, tasks: &[TaskListItem]) -> Vec<String> {
    tasks.iter().map(|item| display(task_type, item.task.id, &item.task.name)).collect()
}

fn not_found(task_type: TaskType, name: &str, tasks: &[TaskListItem]) -> TaskRefError {
    if tasks.is_empty() {
        return TaskRefError::None(task_type);
    }
    let names = tasks.iter().map(|item| item.task.name.as_str()).filter(|name| !name.is_empty());
    match names.min_by_key(|known| strsim::levenshtein(known, name)) {
        Some(nearest) => TaskRefError::Nearest(format!("{task_type}/{nearest}")),
        None => TaskRefError::NotFound(references(task_type, tasks)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "a41c7d90-3b52-4e8f-8c60-1d2e3f405162";

    fn task(id: &str, name: &str) -> TaskListItem {
        let text = format!(
            r#"{{"cluster_id":"5e2d9f04-8a37-4b6c-9d11-c0ffee5a7e01","type":"backup","id":"{id}","name":"{name}","status":"NEW"}}"#
        );
        serde_json::from_str(&text).expect("a task")
    }

    #[test]
    fn references_name_type_and_task() {
        let parse = |text: &str| text.parse::<TaskRef>().map(|r| (r.task_type, r.which));
        assert_eq!(parse("backup"), Ok((TaskType::Backup, Which::Only)));
        assert_eq!(parse("backup/"), Ok((TaskType::Backup, Which::Only)));
        assert_eq!(parse("backup/nightly"), Ok((TaskType::Backup, Which::Name("nightly".to_owned()))));
        assert_eq!(
            parse(&format!("*backup/{ID}")),
            Ok((TaskType::Backup, Which::Id(ID.parse().expect("id"))))
        );
        assert_eq!(parse("1_1_restore"), Ok((TaskType::OneToOneRestore, Which::Only)));
        assert_eq!(parse("bakcup"), Err(TaskRefError::UnknownType("bakcup".to_owned())));
    }

    #[test]
    fn every_row_of_the_table() {
        let named = [task(ID, "nightly"), task("b52d8ea1-4c63-4f90-9d71-2e3f40516273", "weekly")];
        let unnamed = [task(ID, "")];
        let name = |text: &str| Which::Name(text.to_owned());
        let text = |which: &Which, tasks: &[TaskListItem]| match choose(TaskType::Backup, which, tasks) {
            Ok(found) => found.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(text(&Which::Only, &unnamed), format!("backup/{ID}"));
        assert_eq!(text(&Which::Only, &[]), "no tasks of type backup");
        assert_eq!(
            text(&Which::Only, &named),
            "task ambiguity, use one of:\n- backup/nightly\n- backup/weekly"
        );
        assert_eq!(text(&name("weekly"), &named), "backup/weekly");
        assert_eq!(text(&name("nigthly"), &named), "not found, did you mean backup/nightly");
        assert_eq!(text(&name("x"), &unnamed), format!("not found, use one of:\n- backup/{ID}"));
        assert_eq!(text(&name("x"), &[]), "no tasks of type backup");
    }
}
