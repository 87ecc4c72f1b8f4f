//! The exit codes of all client commands; `stillpoint --help` and `docs/guide/cli.md` list them.
//!
//! `serve` has its own ones, see `main.rs`.

/// The server refused it, or it was begun and failed.
pub(crate) const FAILED: u8 = 1;
/// The command line, a variable or the configuration file is wrong; nothing was sent. Clap ends with the same.
pub(crate) const USAGE: u8 = 2;
/// Nothing has this name or id, or several things have this name.
pub(crate) const NOT_FOUND: u8 = 3;
/// The login failed, or this user may not do that.
pub(crate) const NOT_ALLOWED: u8 = 4;
/// Something is in the way just now: a lock, a status, a backup, a preview.
pub(crate) const IN_THE_WAY: u8 = 5;
/// The server was not reached, or its answer was lost.
pub(crate) const UNREACHED: u8 = 6;
/// It was not confirmed; nothing was done.
pub(crate) const UNCONFIRMED: u8 = 7;
/// It did not end within `--timeout`; the server goes on with it.
pub(crate) const UNENDED: u8 = 8;
/// Damage was found, and is left: `stillpoint repair`.
pub(crate) const FOUND: u8 = 9;
/// A signal ended the command, as shells know it.
pub(crate) const INTERRUPTED: u8 = 130;

/// What help texts say about them.
pub(crate) const HELP: &str = "Exit codes of client commands:
  0  done                                  5  something is in the way just now (a lock, a status)
  1  refused, or begun and failed          6  the server was not reached, or its answer was lost
  2  the command line is wrong             7  not confirmed; nothing was done
  3  nothing, or several things, so named  8  not ended within --timeout; the server goes on
  4  not logged in, or not allowed         9  damage was found and is left (repair)
                                           130  interrupted";
