//! A child process whose output is kept: wait for a line, kill it, ask it to stop, see how it
//! ended. If nobody waited for the child, it is killed when this value is dropped.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Lines of output that are kept; older ones are dropped.
const LINES_MAX: usize = 4_096;
/// How long a child may take for anything that is awaited.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A running or ended child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<OutputState>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct OutputState {
    lines: VecDeque<String>,
    open_streams: usize,
}

impl Output {
    fn follow(self: &Arc<Output>, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let output = Arc::clone(self);
        self.lock().open_streams += 1;
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            // A read error of a pipe is treated like its end.
            while stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                let mut state = output.lock();
                if state.lines.len() == LINES_MAX {
                    state.lines.pop_front();
                }
                state.lines.push_back(text);
                output.grown.notify_all();
            }
            output.lock().open_streams -= 1;
            output.grown.notify_all();
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OutputState> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl Process {
    /// Starts `command` with both output streams captured.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start(mut command: Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("stdout was piped above");
        let stderr = child.stderr.take().expect("stderr was piped above");
        let readers = vec![output.follow(stdout), output.follow(stderr)];
        Process {
            child,
            output,
            readers,
        }
    }

    /// The operating system's id of the child.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains `text`; an error holds what was printed instead.
    pub fn wait_for_line(&self, text: &str) -> Result<String, String> {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.output.lock();
        loop {
            if let Some(line) = state.lines.iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.open_streams == 0 || left.is_zero() {
                let how = if left.is_zero() {
                    "in time"
                } else {
                    "to its end"
                };
                let lines: Vec<_> = state.lines.iter().cloned().collect();
                return Err(format!(
                    "no line with {text:?} {how}:\n{}",
                    lines.join("\n")
                ));
            }
            state = self
                .output
                .grown
                .wait_timeout(state, left)
                .expect("no holder of this lock panics")
                .0;
        }
    }

    /// Waits until the child has printed `lines` lines in all, or one with `last`, or has ended.
    ///
    /// # Panics
    /// When none of that happens before the deadline.
    pub fn wait_for_lines(&self, lines: usize, last: &str) {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.output.lock();
        while state.lines.len() < lines
            && state.open_streams > 0
            && !state.lines.iter().any(|line| line.contains(last))
        {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{} lines were printed, not {lines}",
                state.lines.len()
            );
            let waited = self.output.grown.wait_timeout(state, left);
            state = waited.expect("no holder of this lock panics").0;
        }
    }

    /// What the child has printed so far (its last lines).
    pub fn printed(&self) -> String {
        let state = self.output.lock();
        state.lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Ends the child with SIGKILL and waits for it.
    pub fn kill(&mut self) {
        // An error means that the child has ended by itself, which `wait` finds out as well.
        let _ = self.child.kill();
        let _ = self.wait();
    }

    /// Sends SIGTERM; the caller then waits.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGSTOP: the child does nothing until it is resumed.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a positive id"), signal)
            .expect("a child that was not waited for can be signalled");
    }

    /// Whether the child still runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be asked")
            .is_none()
    }

    /// Waits until the child ends and both output streams are read.
    ///
    /// # Panics
    /// When it does not end before the deadline; it is then killed.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.output.lock();
        while state.open_streams > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                let _ = self.child.kill();
                panic!("the process did not end; it printed:\n{}", self.printed());
            }
            let waited = self.output.grown.wait_timeout(state, left);
            state = waited.expect("no holder of this lock panics").0;
        }
        drop(state);
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader of output does not panic");
        }
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
