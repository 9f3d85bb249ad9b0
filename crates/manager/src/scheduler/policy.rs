//! Which runs of one cluster may work at the same time (spec manager.md 4.7, design section 5).

use common::task::TaskType;

/// The answer to a run that wants to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Go.
    Start,
    /// Stay in the queue until another run has ended.
    Wait,
    /// The run ends in `ERROR` with this cause.
    Refuse(String),
}

/// Decides about a run of `task_type` beside those that run now in the same cluster.
///
/// A backup waits for another backup: daily, weekly and monthly schedules do meet, and none of them is at
/// fault. All other conflicts are errors, and retried like errors.
pub fn admit(task_type: TaskType, running: impl IntoIterator<Item = TaskType>) -> Admission {
    if !is_managed(task_type) {
        return Admission::Start;
    }
    let running: Vec<TaskType> = running.into_iter().filter(|t| is_managed(*t)).collect();
    let refuse = |cause: String| Admission::Refuse(cause);
    if running.contains(&task_type) {
        return match task_type {
            TaskType::Backup => Admission::Wait,
            _ => refuse("another task is running".to_owned()),
        };
    }
    if is_exclusive(task_type) && !running.is_empty() {
        return refuse(format!("run exclusive task {task_type}: another task is running"));
    }
    match running.iter().find(|t| is_exclusive(**t)) {
        Some(exclusive) => {
            refuse(format!("exclusive task ({exclusive}) is running: another task is running"))
        }
        None => Admission::Start,
    }
}

fn is_exclusive(task_type: TaskType) -> bool {
    matches!(task_type, TaskType::Restore | TaskType::OneToOneRestore)
}

fn is_managed(task_type: TaskType) -> bool {
    match task_type {
        TaskType::Backup
        | TaskType::Repair
        | TaskType::TabletRepair
        | TaskType::Restore
        | TaskType::OneToOneRestore => true,
        TaskType::ValidateBackup | TaskType::HealthCheck | TaskType::Suspend => false,
    }
}

#[cfg(test)]
mod tests {
    use TaskType::{Backup, HealthCheck, OneToOneRestore, Repair, Restore, Suspend, ValidateBackup};

    use super::*;

    #[test]
    fn exclusivity() {
        let another = "another task is running";
        for (task_type, running, expected) in [
            (Backup, vec![], Ok(true)),
            (Backup, vec![HealthCheck, ValidateBackup, Suspend], Ok(true)),
            (Backup, vec![Repair], Ok(true)),
            (Backup, vec![Backup], Ok(false)),
            (Backup, vec![Backup, Repair], Ok(false)),
            (Backup, vec![Restore], Err(format!("exclusive task (restore) is running: {another}"))),
            (
                Repair,
                vec![OneToOneRestore],
                Err(format!("exclusive task (1_1_restore) is running: {another}")),
            ),
            (Repair, vec![Repair], Err(another.to_owned())),
            (Restore, vec![Restore], Err(another.to_owned())),
            (Restore, vec![Backup], Err(format!("run exclusive task restore: {another}"))),
            (Restore, vec![OneToOneRestore], Err(format!("run exclusive task restore: {another}"))),
            (Restore, vec![HealthCheck, ValidateBackup], Ok(true)),
            (HealthCheck, vec![Restore, HealthCheck], Ok(true)),
            (ValidateBackup, vec![ValidateBackup, Restore], Ok(true)),
        ] {
            let actual = match admit(task_type, running.clone()) {
                Admission::Start => Ok(true),
                Admission::Wait => Ok(false),
                Admission::Refuse(cause) => Err(cause),
            };
            assert_eq!(actual, expected, "{task_type} beside {running:?}");
        }
    }
}
