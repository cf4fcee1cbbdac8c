//! Where the admin listener of the process is, or the service whose caches are meant, and with which token it is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use vocab::Secret;

use super::ConnectArgs;

/// The file that is looked at when none is named.
const FILE: &str = "./tenfold.toml";

/// The variable that holds the token, when no file does.
const TOKEN_VARIABLE: &str = "TENFOLD_ADMIN_TOKEN";

/// Where it is when nothing says otherwise.
const DEFAULT: &str = "127.0.0.1:9900";

/// What answers there, for what is said when it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The admin listener of a process of Tenfold.
    Process,
    /// A service that shows its caches.
    Service,
}

impl Kind {
    /// How it answers.
    pub(super) fn manner(self) -> &'static str {
        match self {
            Self::Process => "as Tenfold's admin listener does",
            Self::Service => "as a service does that shows its caches",
        }
    }

    /// What to do where nothing answers.
    pub(super) fn if_silent(self) -> &'static str {
        match self {
            Self::Process => "is `tenfold run` running? --admin URL or --config FILE names another one",
            Self::Service => "is the service running? --at names its listener, and the path of its caches",
        }
    }

    /// What to do where a token is asked for.
    pub(super) fn if_unknown(self) -> &'static str {
        match self {
            Self::Process => "set TENFOLD_ADMIN_TOKEN, or name the file that it runs by with --config",
            Self::Service => "name a file with its token by --token-file",
        }
    }
}

/// An admin listener, or a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Host and port, as they stand in a URL.
    pub(super) authority: String,
    /// What it is asked with.
    pub(super) token: Option<Secret>,
    /// How it was found, for whoever wonders.
    pub(super) found: String,
    /// What it is.
    pub(super) kind: Kind,
}

impl Target {
    fn process(authority: String, token: Option<Secret>, found: String) -> Self {
        Self { authority, token, found, kind: Kind::Process }
    }
}

/// Finds a service by the URL of its caches, and the path there.
pub(super) fn service(url: &str, token_file: Option<&Path>) -> anyhow::Result<(Target, String)> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (listener, path) = match rest.find('/') {
        Some(at) => url.split_at(url.len() - rest.len() + at),
        None => (url, "/"),
    };
    ensure!(path.bytes().all(|byte| byte.is_ascii_graphic()), "--at {url}: the path has characters that no URL has");
    ensure!(!path.contains(['?', '#']), "--at {url}: write http://HOST:PORT/PATH, without a query");
    let token = token_file.map(config::token_of).transpose().map_err(anyhow::Error::msg)?;
    let authority = authority("--at", listener)?;
    Ok((Target { authority, token, found: "given by --at".to_owned(), kind: Kind::Service }, path.to_owned()))
}

/// Finds the admin listener. `env` gives the values of environment variables.
pub(super) fn find(args: &ConnectArgs, env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Target> {
    let token = || env(TOKEN_VARIABLE).filter(|text| !text.is_empty()).map(Secret::new);
    if let Some(url) = &args.admin {
        return Ok(Target::process(authority("--admin", url)?, token(), "given by --admin".to_owned()));
    }
    let file = args.config.clone().or_else(|| Path::new(FILE).exists().then(|| PathBuf::from(FILE)));
    let Some(file) = file else {
        let found = format!("the default, as there is no {FILE}");
        return Ok(Target::process(DEFAULT.to_owned(), token(), found));
    };
    let shown = file.display();
    let admin = config::load_admin(&file, env).map_err(|found| {
        let first = found.iter().next().map_or_else(String::new, |one| format!(" ({})", one.message()));
        anyhow::anyhow!("{shown} does not tell where the admin listener is{first}: mend it, or give --admin URL")
    })?;
    let admin = admin.with_context(|| format!("{shown} turns the admin listener off"))?;
    let listen = admin.listen;
    ensure!(listen.port() != 0, "{shown} leaves the admin listener's port to the system: give --admin URL");
    let token = admin.token.or_else(token);
    Ok(Target::process(reachable(listen).to_string(), token, format!("from {shown}")))
}

/// The address by which this machine reaches a listener.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Host and port of a URL, which an option gave.
fn authority(option: &str, url: &str) -> anyhow::Result<String> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => bail!("{option} {url}: only http is spoken, not https"),
        Some(_) => bail!("{option} {url}: write http://HOST:PORT"),
        None => url,
    };
    ensure!(!rest.contains('@'), "{option} {url}: write http://HOST:PORT, without a user");
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    ensure!(!rest.contains(['/', '?', '#']), "{option} {url}: write http://HOST:PORT, without a path");
    let has_port = match rest.strip_prefix('[') {
        Some(v6) => v6.contains("]:"),
        None => rest.contains(':'),
    };
    let with_port = if has_port { rest.to_owned() } else { format!("{rest}:80") };
    config::endpoint_address(&with_port).map_err(|error| anyhow::anyhow!("{option} {url}: {error}"))?;
    Ok(with_port)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_token_is_read_from_whatever_can_be_read() {
        // As a shell gives it for <(...): the other end of a pipe, by the number of its descriptor.
        let given = |bytes: &[u8]| {
            let (output, mut input) = std::io::pipe().expect("a pipe");
            let path = format!("/dev/fd/{}", output.as_raw_fd());
            std::thread::scope(|scope| {
                scope.spawn(move || input.write_all(bytes));
                let found = service("http://127.0.0.1:1/caches", Some(Path::new(&path)));
                // Who writes more than is read hears of the end.
                drop(output);
                found.map(|(target, _)| target.token.expect("it was given").expose().to_owned()).map_err(|error| {
                    let text = error.to_string();
                    assert!(text.starts_with(&path) && text.contains("name a file or a pipe"), "{text}");
                    text
                })
            })
        };
        assert_eq!(given(b"0123456789abcdef\n").expect("a token"), "0123456789abcdef");
        let wrong = [
            (&b""[..], "holds no token"),
            (b"hunter2", "holds no token"),
            (b"\xff\xff", "cannot be read"),
            (&[b'a'; 70_000], "has more than 65536 bytes"),
        ];
        for (bytes, part) in wrong {
            let error = given(bytes).expect_err(part);
            assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
        }
        let error = service("http://127.0.0.1:1/caches", Some(Path::new("/dev"))).expect_err("a folder").to_string();
        assert!(error.starts_with("/dev cannot be read") && error.contains("name a file or a pipe"), "{error}");
    }

    #[test]
    fn urls_are_read() {
        let good = |url: &str, expected: &str| assert_eq!(authority("--admin", url).expect(url), expected);
        good("http://127.0.0.1:9900", "127.0.0.1:9900");
        good("http://127.0.0.1:9900/", "127.0.0.1:9900");
        good("admin.example.com:9900", "admin.example.com:9900");
        good("http://admin.example.com", "admin.example.com:80");
        good("http://[::1]:9900", "[::1]:9900");
        good("http://[::1]", "[::1]:80");
        let bad = |url: &str, part: &str| {
            let error = authority("--admin", url).expect_err(url).to_string();
            assert!(error.contains(part) && error.contains(url), "{error}");
        };
        bad("https://127.0.0.1:9900", "not https");
        bad("ftp://127.0.0.1", "write http://HOST:PORT");
        bad("http://127.0.0.1:9900/api", "without a path");
        bad("http://user@host:1", "without a user");
        bad("http://127.0.0.1:99000", "port above 65535");
        bad("", "no host");
    }

    #[test]
    fn a_service_has_a_path() {
        let good = |url: &str, expected: (&str, &str)| {
            let (target, path) = service(url, None).expect(url);
            assert_eq!((target.authority.as_str(), path.as_str()), expected, "{url}");
        };
        good("http://127.0.0.1:8080/caches", ("127.0.0.1:8080", "/caches"));
        good("http://127.0.0.1:8080", ("127.0.0.1:8080", "/"));
        good("http://127.0.0.1:8080/", ("127.0.0.1:8080", "/"));
        good("[::1]:8080/a/b/", ("[::1]:8080", "/a/b/"));
        good("shop.example.com/caches", ("shop.example.com:80", "/caches"));
        for bad in
            ["https://127.0.0.1/caches", "http://127.0.0.1:8080/a b", "http://127.0.0.1/a?b", "ftp://a/b", "/caches"]
        {
            let error = service(bad, None).expect_err(bad).to_string();
            assert!(error.contains("--at"), "{error}");
        }
        let user = service("http://user@shop.example.com/caches", None).expect_err("a user").to_string();
        assert!(user.contains("--at") && user.contains("without a user"), "{user}");
        let missing = service("http://127.0.0.1:8080", Some(Path::new("no/such/file"))).expect_err("no file");
        assert!(missing.to_string().contains("no/such/file cannot be read"), "{missing}");
    }

    #[test]
    fn the_file_tells_address_and_token() {
        let folder = std::env::temp_dir().join(format!("tenfold-target-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("tenfold.toml");
        let env = |name: &str| (name == TOKEN_VARIABLE).then(|| "0123456789abcdef".to_owned());
        let args = ConnectArgs { config: Some(file.clone()), admin: None };
        let check = |text: &str, expected: Result<(&str, Option<&str>), &str>| {
            std::fs::write(&file, text).expect("a file");
            match (find(&args, &env), expected) {
                (Ok(found), Ok((authority, token))) => {
                    assert_eq!(found.authority, authority, "{text}");
                    assert_eq!(found.token.as_ref().map(Secret::expose), token, "{text}");
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        };
        check("", Ok(("127.0.0.1:9900", Some("0123456789abcdef"))));
        let own = "[admin]\nlisten = \"0.0.0.0:9901\"\ntoken = \"fedcba9876543210\"\n";
        check(own, Ok(("127.0.0.1:9901", Some("fedcba9876543210"))));
        check("[admin]\nlisten = \"[::1]:9901\"\n", Ok(("[::1]:9901", Some("0123456789abcdef"))));
        check("[admin]\nlisten = \"127.0.0.1:0\"\n", Err("give --admin URL"));
        check("[admin]\nenabled = false\n", Err("turns the admin listener off"));
        // What is wrong elsewhere, or may not be read, is not for whoever asks.
        let elsewhere = "[admin]\nlisten = \":9902\"\n[listener.web]\nlisten = \"${UNSET}\"\n";
        let keys = "tls = { certificate = \"no.pem\", key = \"no.key\" }\n[nonsense]\n";
        check(&format!("{elsewhere}{keys}"), Ok(("127.0.0.1:9902", Some("0123456789abcdef"))));
        check(
            "[admin]\nlisten = \"127.0.0.1:9902\"\ntoken = \"${UNSET}\"\n",
            Ok(("127.0.0.1:9902", Some("0123456789abcdef"))),
        );
        check("[admin]\nlisten = \"nowhere\"\n", Err("does not tell where the admin listener is"));
        check("[admin]\ntoken_file = \"no/such/file\"\n", Err("no/such/file cannot be read"));
        check("[admin\n", Err("mend it, or give --admin URL"));
        std::fs::remove_dir_all(folder).expect("it is there");
        let given = ConnectArgs { config: None, admin: Some("http://10.0.0.1:1".to_owned()) };
        let found = find(&given, &|_| None).expect("a target");
        assert_eq!((found.authority.as_str(), found.token), ("10.0.0.1:1", None));
    }
}
