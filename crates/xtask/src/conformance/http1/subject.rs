use testkit::free_port;

use crate::conformance::subject::{Setting, Texts};

/// Short timeouts, and bodies of at most 1 MiB.
pub(super) const TEXTS: Texts = Texts { tenfold: tenfold_toml, nginx: nginx_conf, haproxy: haproxy_cfg };

fn tenfold_toml(setting: &Setting) -> String {
    let mut text = format!("[admin]\nlisten = \"127.0.0.1:{}\"\n[log]\nlevel = \"warn\"\n", free_port());
    for (index, (port, upstream)) in setting.bare.iter().enumerate() {
        // One endpoint is never taken out and nothing is retried, so that each row stands alone.
        text += &format!(
            "[listener.l{index}]\nlisten = \"127.0.0.1:{port}\"\nbody_bytes_max = \"1MiB\"\nhttp2 = \"off\"\n\
             head_timeout = \"1s\"\nbody_timeout = \"1s\"\n\
             [[route]]\nlistener = \"l{index}\"\nservice = \"s{index}\"\n\
             [service.s{index}]\nendpoints = [\"{upstream}\"]\npassive_health = \"off\"\nretry = \"off\"\n\
             response_timeout = \"5s\"\n"
        );
    }
    text
}

fn nginx_conf(setting: &Setting) -> String {
    let servers: String = setting
        .bare
        .iter()
        .map(|(port, upstream)| {
            format!(
                "upstream u{port} {{ server {upstream} max_fails=0; keepalive 8; }}\n\
                 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u{port}; }} }}\n"
            )
        })
        .collect();
    format!(
        "events {{}}\nhttp {{ access_log off; client_max_body_size 1m; client_header_timeout 1s; client_body_timeout 1s;\n\
         large_client_header_buffers 4 32k; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;\n\
         proxy_request_buffering off;\n{servers} }}"
    )
}

fn haproxy_cfg(setting: &Setting) -> String {
    let proxies: String = setting
        .bare
        .iter()
        .map(|(port, upstream)| {
            format!("listen l{port}\n bind 127.0.0.1:{port}\n option forwardfor\n server a {upstream}\n")
        })
        .collect();
    format!(
        "defaults\n mode http\n timeout http-request 1s\n timeout connect 5s\n timeout client 2s\n timeout server 5s\n{proxies}"
    )
}
