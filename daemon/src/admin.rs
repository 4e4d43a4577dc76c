//! The admin socket: gRPC over a Unix socket, for the member's own user and root.
//!
//! The file's mode keeps everybody else out, and the user that the kernel reports for a connection
//! is checked as well, so that a socket in a carelessly chosen directory gives nothing away.
//! Questions go to the loop that runs the member, one after the other. This value owns the socket's
//! file; without it the member serves all the same, and SIGHUP still reloads.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use althing_api::adminpb::admin_server::{Admin, AdminServer};
use althing_api::adminpb::{
    Change, ChangesResponse, DiffRequest, ReloadRequest, Setting, ShowRequest, ShowResponse,
};
use althing_conf::{Effect, Given};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::{Request, Response, Status};

use crate::operator::{Outcome, Question};

/// Connections at once; operators are few.
const CONNECTIONS_MAX: usize = 8;
/// Questions that wait for their turn.
const QUESTIONS_MAX: usize = 8;
/// Pause after a connection could not be accepted, perhaps for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The open socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    /// `None` if the file at the path is not ours.
    bound: Option<PathBuf>,
    questions: mpsc::Receiver<Question>,
    /// Keeps the channel open when there is no socket.
    _sender: mpsc::Sender<Question>,
}

impl AdminSocket {
    /// Opens the socket; where that is not possible, warns and answers nobody. Must be called
    /// inside an actix system, by the holder of the data directory.
    pub fn open(path: &Path) -> AdminSocket {
        let (sender, questions) = mpsc::channel(QUESTIONS_MAX);
        let bound = match bind(path) {
            Ok(listener) => {
                drop(actix_rt::spawn(accept(listener, sender.clone())));
                Some(path.to_owned())
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    path = %path.display(),
                    "no admin socket, so `althingctl config` does not reach this member; give \
                     --admin-socket a short path in a directory of this user's"
                );
                None
            }
        };
        AdminSocket {
            bound,
            questions,
            _sender: sender,
        }
    }

    /// The next question.
    pub async fn next(&mut self) -> Question {
        let question = self.questions.recv().await;
        question.expect("this value holds a sender")
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Some(path) = &self.bound {
            // What is left over is removed by the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file left behind is replaced, one where somebody answers is not.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let text = "another process answers there";
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            let text = "there is a file that is no socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, questions: mpsc::Sender<Question>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) if is_trusted(&stream) => {
                let questions = questions.clone();
                actix_rt::spawn(async move {
                    serve(stream, questions).await;
                    drop(place);
                });
            }
            Ok(_) => tracing::warn!("somebody else's connection to the admin socket was closed"),
            Err(error) => {
                tracing::warn!(%error, "the admin socket could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the other end is root or this process's user.
fn is_trusted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred();
    peer.is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn serve(stream: UnixStream, questions: mpsc::Sender<Question>) {
    let service = TowerToHyperService::new(AdminServer::new(Asking(questions)));
    let connection = hyper::server::conn::http2::Builder::new(Local)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the admin socket ended");
    }
}

/// The requests of a connection run on its thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        drop(actix_rt::spawn(task));
    }
}

/// The service: passes each call on as a question.
struct Asking(mpsc::Sender<Question>);

impl Asking {
    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, Status> {
        let (sender, answer) = oneshot::channel();
        let stopping = || Status::unavailable("the member stops");
        let sent = self.0.send(question(sender)).await;
        sent.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

#[tonic::async_trait]
impl Admin for Asking {
    async fn show(&self, _: Request<ShowRequest>) -> Result<Response<ShowResponse>, Status> {
        let settings = self.ask(Question::Show).await?;
        let settings = settings
            .iter()
            .map(|given| setting(given, Effect::of(given.key)));
        let settings = settings.collect();
        Ok(Response::new(ShowResponse { settings }))
    }

    async fn diff(
        &self,
        request: Request<DiffRequest>,
    ) -> Result<Response<ChangesResponse>, Status> {
        let file = request.into_inner().file.map(|file| (file.name, file.text));
        answer(self.ask(|to| Question::Diff(file, to)).await?)
    }

    async fn reload(&self, _: Request<ReloadRequest>) -> Result<Response<ChangesResponse>, Status> {
        answer(self.ask(Question::Reload).await?)
    }
}

fn answer(outcome: Outcome) -> Result<Response<ChangesResponse>, Status> {
    let changes = outcome.map_err(Status::failed_precondition)?;
    let change = |change: &althing_conf::Change| Change {
        from: Some(setting(&change.from, change.effect)),
        to: Some(setting(&change.to, change.effect)),
    };
    Ok(Response::new(ChangesResponse {
        changes: changes.changes.iter().map(change).collect(),
        warnings: changes.warnings,
    }))
}

fn setting(given: &Given, effect: Effect) -> Setting {
    Setting {
        key: given.key.to_owned(),
        flag: given.flag.to_owned(),
        value: given.value.clone(),
        origin: given.origin.clone(),
        effect: effect.to_string(),
    }
}
