//! The driver under a paused clock, with a scripted runner.

mod bed;
mod control;
mod schedules;
mod suspend;
