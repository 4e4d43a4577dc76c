//! The JSON gateway's client: HTTP/1.1, one kept connection, bodies unchanged.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// Every header of the answer.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", self.body))
    }
}

/// One connection, opened when it is needed.
#[derive(Debug)]
pub struct Json {
    port: u16,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Json {
    /// A client of the member on `port` of this host.
    pub fn new(port: u16) -> Json {
        Json {
            port,
            connection: None,
        }
    }

    /// Sends a POST, which every route of the gateway wants.
    ///
    /// # Errors
    /// When the connection cannot be opened or breaks.
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> std::io::Result<Answer> {
        self.send(Method::POST, path, body.into()).await
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// When the connection cannot be opened or breaks.
    pub async fn get(&mut self, path: &str) -> std::io::Result<Answer> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// Sends a request of any method and path.
    ///
    /// # Errors
    /// When the connection cannot be opened or breaks.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> std::io::Result<Answer> {
        self.send_with(method, path, body, &[]).await
    }

    /// Like `send`, with more headers.
    ///
    /// # Errors
    /// When the connection cannot be opened or breaks.
    pub async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> std::io::Result<Answer> {
        let answer = self.begin_with(method, path, body, headers).await?;
        let (head, body) = answer.into_parts();
        let body = body
            .collect()
            .await
            .map_err(std::io::Error::other)?
            .to_bytes();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// Sends a request and returns once the head of its answer is there; the body may never end.
    ///
    /// # Errors
    /// When the connection cannot be opened or breaks.
    pub async fn begin(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> std::io::Result<Response<Incoming>> {
        self.begin_with(method, path, body, &[]).await
    }

    async fn begin_with(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> std::io::Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("127.0.0.1:{}", self.port))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(std::io::Error::other)?;
        let connection = self.open().await?;
        let answer = connection.send_request(request).await;
        answer.map_err(std::io::Error::other)
    }

    /// The kept connection, or a new one if the member closed it.
    async fn open(&mut self) -> std::io::Result<&mut SendRequest<Full<Bytes>>> {
        let usable = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(stream))
                .await
                .map_err(std::io::Error::other)?;
            // The sender sees the end of the connection; nothing else needs the result.
            tokio::spawn(async move { connection.await.is_ok() });
            self.connection = Some(sender);
        }
        Ok(self.connection.as_mut().expect("it was opened above"))
    }
}
