//! Whether a server answers, as a readiness probe asks.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(2);

/// A readiness probe over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    address: SocketAddr,
    path: String,
}

impl Readiness {
    /// The container's, at its pod's address; `None` if it has none that this runner knows.
    pub fn of(container: &Container, address: &str) -> Option<Self> {
        let http = container.readiness_probe.as_ref()?.http_get.as_ref()?;
        let port = match &http.port {
            IntOrString::Int(port) => *port,
            IntOrString::String(name) => {
                let ports = container.ports.iter().flatten();
                ports.into_iter().find(|port| port.name.as_ref() == Some(name))?.container_port
            }
        };
        let address = SocketAddr::new(address.parse().ok()?, u16::try_from(port).ok()?);
        Some(Self { address, path: http.path.clone().unwrap_or_else(|| "/".to_owned()) })
    }

    /// Asks once.
    pub async fn answers(&self) -> bool {
        let asked = async {
            let mut stream = TcpStream::connect(self.address).await?;
            let request = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", self.path, self.address);
            stream.write_all(request.as_bytes()).await?;
            let mut head = [0; 12];
            stream.read_exact(&mut head).await?;
            Ok::<_, std::io::Error>(head)
        };
        let head = tokio::time::timeout(LIMIT, asked).await;
        matches!(head, Ok(Ok(head)) if head.ends_with(b" 200"))
    }
}
