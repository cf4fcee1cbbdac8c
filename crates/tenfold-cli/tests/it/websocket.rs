//! WebSockets through the gateway, from clients in two languages, bare and under TLS.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use testkit::Authority;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use crate::site::{config, listeners, site, start};

/// A server that sends back what it gets.
pub(crate) fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || {
                let Ok(mut socket) = tungstenite::accept(stream) else { return };
                while let Ok(message) = socket.read() {
                    if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

pub(crate) fn connect(address: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let config = WebSocketConfig::default().max_message_size(Some(64 << 20)).max_frame_size(Some(64 << 20));
    tungstenite::client::client_with_config(format!("ws://{address}/chat"), stream, Some(config)).unwrap().0
}

#[test]
fn messages_of_all_sizes_and_kinds_pass() {
    let site = site(&[echo()], "");
    let mut socket = connect(site.address());
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000] {
        let text = "x".repeat(size);
        socket.send(Message::text(text.clone())).unwrap();
        assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), text);
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        socket.send(Message::binary(bytes.clone())).unwrap();
        assert!(socket.read().unwrap().into_data() == bytes, "{size}");
    }
    socket.send(Message::Ping(b"are you there"[..].into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(b"are you there"[..].into()));
    let reason = CloseFrame { code: CloseCode::Away, reason: "bye".into() };
    socket.close(Some(reason.clone())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Close(Some(reason)));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
}

#[test]
fn a_socket_lives_through_reloads_and_ends_with_a_stop() {
    let server = echo();
    let mut site = site(&[server], "");
    let mut socket = connect(site.address());
    let text = std::fs::read_to_string(site.config()).unwrap();
    for count in 0..20 {
        let extra = config(&[server], "");
        let extra = extra.split_once("[service.api]").unwrap().1;
        site.reload(&format!("{text}\n[service.extra-{count}]{extra}")).unwrap();
        let done = f64::from(count + 1);
        let reloaded = |site: &testkit::Tenfold| Ok(site.metric("config_reloads_total", &["success"])? >= done);
        site.wait_until("a reload", reloaded).unwrap();
        socket.send(Message::text(count.to_string())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text(count.to_string()));
    }
}

#[test]
fn a_client_in_python_is_served_under_tls() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &["localhost"]).unwrap();
    let head = listeners(testkit::free_port());
    let site = start(&format!(
        "{head}tls = {{ certificate = {:?}, key = {:?} }}\n[[route]]\nservice = \"api\"\n\
         [service.api]\nendpoints = [\"{}\"]\n",
        issued.certificate,
        issued.key,
        echo()
    ));
    let script = "
import asyncio, ssl, sys, websockets
async def main():
    context = ssl.create_default_context(cafile=sys.argv[2])
    async with websockets.connect(sys.argv[1], ssl=context, server_hostname='localhost') as socket:
        for message in ['hello', b'\\x00\\xff', 'x' * 100000]:
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
    print('closed with', socket.close_code)
asyncio.run(asyncio.wait_for(main(), 20))
";
    let url = format!("wss://{}/", site.address());
    // Debian's own Python has the module that Debian packages.
    let output =
        Command::new("/usr/bin/python3").arg("-c").arg(script).arg(url).arg(authority.file()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "closed with 1000\n", "{errors}\n{}", site.output());
}
