//! I/O class of the agent's threads: idle, so that the database's reads and writes go first.
//!
//! The class belongs to a thread, and a new thread has that of the one that starts it. So it is set once, in the first
//! thread, before there are others. It counts where the disk's scheduler looks at it (bfq); elsewhere it does no harm.

use std::io;

use ioprio::{Class, Pid, Priority, Target};

/// Puts the calling thread, and all that it starts from now on, into the idle class. Needs no privilege.
///
/// # Errors
/// The kernel refuses, or knows no classes.
pub fn be_idle() -> io::Result<()> {
    // 0 is the calling thread.
    let this_thread = Target::Process(Pid::from_raw(0));
    ioprio::set_priority(this_thread, Priority::new(Class::Idle)).map_err(io::Error::other)
}
