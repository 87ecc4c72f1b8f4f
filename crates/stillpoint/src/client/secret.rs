//! Passwords that a command is given: from a file, from standard input, or typed without being shown. Never as an argument,
//! which everybody on the host could read.

use super::{Trouble, code, shown::note};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    path::Path,
};

/// The longest first line that is read.
const MAX_BYTES: u64 = 64 << 10;

/// A new password: of `file` (`-` is standard input), else typed twice. `option` is what names the file.
pub(crate) async fn new_password(file: Option<&Path>, option: &'static str) -> Result<String, Trouble> {
    let file = file.map(Path::to_owned);
    let read = tokio::task::spawn_blocking(move || match file {
        Some(path) => of_file(&path),
        None => typed(option),
    });
    let password = read
        .await
        .map_err(|error| Trouble::of("the password cannot be read", error))??;
    if password.is_empty() {
        return Err(Trouble::new("the new password is empty")
            .hint(format!("its first line is the password: {option} FILE"))
            .code(code::USAGE));
    }
    Ok(password)
}

/// The first line of a file; its end is not part of it.
fn of_file(path: &Path) -> Result<String, Trouble> {
    let unread = |error| {
        let shown = path.display();
        Trouble::of(format!("reading the new password from {shown} failed"), error).code(code::USAGE)
    };
    let mut line = String::new();
    if path == Path::new("-") {
        let input = io::stdin().lock();
        io::Read::take(input, MAX_BYTES).read_line(&mut line).map_err(unread)?;
    } else {
        let input = fs::File::open(path).map_err(unread)?;
        let mut input = io::BufReader::new(io::Read::take(input, MAX_BYTES));
        input.read_line(&mut line).map_err(unread)?;
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

fn typed(option: &str) -> Result<String, Trouble> {
    if !io::stdin().is_terminal() {
        return Err(Trouble::new("there is no new password, and no terminal to ask for it")
            .hint(format!("give {option} FILE, or {option} - for standard input"))
            .code(code::USAGE));
    }
    let unread = |error| Trouble::of("the password cannot be read from the terminal", error);
    let first = ask("new password: ").map_err(unread)?;
    let second = ask("once more: ").map_err(unread)?;
    if first == second {
        return Ok(first);
    }
    Err(Trouble::new("the two are not the same: nothing was done").code(code::USAGE))
}

/// Reads a line that the terminal does not show.
fn ask(prompt: &str) -> io::Result<String> {
    let input = io::stdin();
    // Before the question: whoever answers at once is not shown either.
    let silence = Silence::of(&input)?;
    let mut out = io::stderr().lock();
    write!(out, "{prompt}")?;
    out.flush()?;
    drop(out);
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    drop(silence);
    note("");
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that does not show what is typed, until it is dropped.
struct Silence<'t> {
    terminal: &'t io::Stdin,
    before: Termios,
}

impl<'t> Silence<'t> {
    fn of(terminal: &'t io::Stdin) -> io::Result<Self> {
        let before = tcgetattr(terminal.as_fd())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal.as_fd(), OptionalActions::Flush, &silent)?;
        *shown().lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(before.clone());
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(self.terminal.as_fd(), OptionalActions::Now, &self.before) {
            tracing::debug!(%error, "the terminal cannot be set back");
        }
        *shown().lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }
}

/// How the terminal was before it was made silent, while it is.
fn shown() -> &'static std::sync::Mutex<Option<Termios>> {
    static SHOWN: std::sync::Mutex<Option<Termios>> = std::sync::Mutex::new(None);
    &SHOWN
}

/// Lets the terminal show again what is typed, when the program ends in the middle of a question (Ctrl-C).
pub(crate) fn show_again() {
    let before = shown().lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(before) = before
        && let Err(error) = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &before)
    {
        tracing::debug!(%error, "the terminal cannot be set back");
    }
}
