//! The driver under a paused clock, with a scripted runner.

mod bed;
mod control;
mod random;
mod schedules;
mod suspend;
