//! The floor: a bare actix-web handler that reads the same form with the framework's own extractor and answers the same
//! bytes, on the same allocator. A process of its own, so that its CPU can be told apart.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA};
use actix_web::{App, HttpResponse, HttpServer, web};
use serde::Deserialize;

use crate::Fault;

/// What the server answers to a poll before the person has decided.
const PENDING: &str =
    r#"{"error":"authorization_pending","error_description":"the person has not decided yet","interval":1}"#;

#[derive(Deserialize)]
struct Poll {
    grant_type: String,
    client_id: String,
    device_code: String,
}

async fn poll(form: web::Form<Poll>) -> HttpResponse {
    let Poll { grant_type, client_id, device_code } = form.into_inner();
    if grant_type.is_empty() || client_id.is_empty() || device_code.len() != 64 {
        return HttpResponse::NotFound().finish();
    }
    HttpResponse::BadRequest()
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .insert_header((PRAGMA, HeaderValue::from_static("no-cache")))
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(PENDING)
}

/// Serves until the process ends; the first line on standard output is the address.
pub fn serve(workers: usize) -> Result<(), Fault> {
    actix_rt::System::new().block_on(async {
        let server = HttpServer::new(|| App::new().route("/device/token", web::post().to(poll)))
            .workers(workers)
            // Its connections wait while the server has its turn.
            .keep_alive(Duration::from_secs(75))
            .client_request_timeout(Duration::ZERO)
            .disable_signals()
            .bind(("127.0.0.1", 0))?;
        let address = server.addrs().first().copied().ok_or("no address")?;
        println!("{address}");
        std::io::stdout().flush()?;
        Ok(server.run().await?)
    })
}

/// The running floor; ends with this value.
pub struct Floor {
    child: Child,
    address: SocketAddr,
}

impl Floor {
    pub fn start(workers: usize) -> Result<Self, Fault> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--floor", &workers.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let output = child.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().parse()? })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
