//! Asking a program whether it is ready.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Does `/readyz` at this admin address (`http://host:port`) answer 200? No HTTP library for one
/// line: it would double the time `cargo xtask` takes to build.
pub(crate) async fn is_ready(admin_url: &str) -> bool {
    let address = admin_url.trim_start_matches("http://").trim_end_matches('/');
    let ask = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request =
            format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut line = [0; 12];
        stream.read_exact(&mut line).await.ok()?;
        Some(line.starts_with(b"HTTP/1.") && line.ends_with(b" 200"))
    };
    matches!(tokio::time::timeout(ANSWER_WITHIN, ask).await, Ok(Some(true)))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let _ = stream.read(&mut [0; 512]).await;
            stream.write_all(answer.as_bytes()).await.expect("written");
        });
        url
    }

    #[tokio::test]
    async fn only_200_is_ready() {
        assert!(is_ready(&answering("HTTP/1.1 200 OK\r\n\r\n").await).await);
        assert!(!is_ready(&answering("HTTP/1.1 503 Service Unavailable\r\n\r\n").await).await);
        assert!(!is_ready(&format!("http://127.0.0.1:{}", testkit::free_port())).await);
    }
}
