use testkit::free_port;

use crate::conformance::subject::{Setting, Texts};

/// Few streams at once, so that the bound is soon reached.
pub(super) const STREAMS_MAX: u32 = 10;

/// Clients of HTTP/2, without TLS by prior knowledge.
pub(in crate::conformance) const TEXTS: Texts =
    Texts { tenfold: tenfold_toml, nginx: nginx_conf, haproxy: haproxy_cfg };

fn tenfold_toml(setting: &Setting) -> String {
    let mut text = format!("[admin]\nlisten = \"127.0.0.1:{}\"\n[log]\nlevel = \"warn\"\n", free_port());
    let [certificate, key, _] = &setting.certificate;
    let tls = format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n");
    let bare = setting.bare.iter().map(|pair| (pair, ""));
    let both = bare.chain(setting.tls.iter().map(|pair| (pair, tls.as_str())));
    for (index, ((port, upstream), tls)) in both.enumerate() {
        // One endpoint is never taken out, nothing is retried and no connection is kept, so that each row stands alone.
        text += &format!(
            "[listener.l{index}]\nlisten = \"127.0.0.1:{port}\"\n{tls}http2 = {{ streams_max = {STREAMS_MAX} }}\n\
             head_timeout = \"1s\"\nbody_timeout = \"5s\"\n\
             [[route]]\nlistener = \"l{index}\"\nservice = \"s{index}\"\n\
             [service.s{index}]\nendpoints = [\"{upstream}\"]\npassive_health = \"off\"\nretry = \"off\"\n\
             response_timeout = \"5s\"\npool = {{ idle_max = 0 }}\n"
        );
    }
    text
}

fn nginx_conf(setting: &Setting) -> String {
    let [certificate, key, _] = &setting.certificate;
    let tls = format!("ssl_certificate {certificate}; ssl_certificate_key {key};");
    let bare = setting.bare.iter().map(|pair| (pair, "http2", ""));
    let both = bare.chain(setting.tls.iter().map(|pair| (pair, "ssl http2", tls.as_str())));
    let servers: String = both
        .map(|((port, upstream), options, tls)| {
            format!(
                "upstream u{port} {{ server {upstream} max_fails=0; }}\n\
                 server {{ listen 127.0.0.1:{port} {options}; {tls} location / {{ proxy_pass http://u{port}; }}
                 location /chat {{ proxy_pass http://u{port}; proxy_set_header Upgrade $http_upgrade;
                 proxy_set_header Connection upgrade; }} }}\n"
            )
        })
        .collect();
    format!(
        "worker_processes 1; events {{}}\nhttp {{ access_log off; client_max_body_size 0; client_body_timeout 5s;\n\
         client_body_temp_path {{dir}}; proxy_temp_path {{dir}}; fastcgi_temp_path {{dir}}; uwsgi_temp_path {{dir}};\n\
         scgi_temp_path {{dir}}; http2_max_concurrent_streams {STREAMS_MAX}; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $http_host; proxy_request_buffering off;\n{servers} }}"
    )
}

fn haproxy_cfg(setting: &Setting) -> String {
    let tls = format!("ssl crt {} alpn h2,http/1.1", setting.certificate[2]);
    let bare = setting.bare.iter().map(|pair| (pair, ""));
    let both = bare.chain(setting.tls.iter().map(|pair| (pair, tls.as_str())));
    let proxies: String = both
        .map(|((port, upstream), options)| {
            format!("listen l{port}\n bind 127.0.0.1:{port} {options}\n server a {upstream}\n")
        })
        .collect();
    format!(
        "global\n tune.h2.max-concurrent-streams {STREAMS_MAX}\n\
         defaults\n mode http\n timeout http-request 5s\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
         timeout tunnel 20s\n{proxies}"
    )
}
