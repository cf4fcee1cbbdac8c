//! An offer on its way.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use super::Offer;

/// What the file in memory begins with. Another form gets another number.
const MAGIC: &str = "tenfold hand-over 1";

/// Descriptors in a message. Linux takes 253.
const PORTION: usize = 64;

/// Bytes of names and state: a thousand overrides, and the addresses of thousands of endpoints.
const BYTES_MAX: u64 = 64 << 20;

/// Sockets of an offer: 1000 addresses of listeners, and some more.
const SOCKETS_MAX: usize = 4096;

impl Offer {
    /// Sends the offer. It has to fit into the socket's buffer, which holds thousands of descriptors.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn send(&self, channel: &UnixStream) -> io::Result<()> {
        let file = rustix::fs::memfd_create("tenfold-hand-over", MemfdFlags::CLOEXEC)?;
        let mut file = File::from(file);
        let names: String = self.sockets.iter().map(|(name, _)| format!("{name}\n")).collect();
        write!(file, "{MAGIC}\n{}\n{names}", self.sockets.len())?;
        file.write_all(&self.state)?;
        send_descriptors(channel, &[file.as_fd()])?;
        for portion in self.sockets.chunks(PORTION) {
            let descriptors: Vec<BorrowedFd<'_>> = portion.iter().map(|(_, socket)| socket.as_fd()).collect();
            send_descriptors(channel, &descriptors)?;
        }
        Ok(())
    }

    /// Receives an offer.
    ///
    /// # Errors
    /// Those of the system, and what does not look like an offer.
    pub(super) fn receive(channel: &UnixStream) -> io::Result<Self> {
        let mut first = receive_descriptors(channel)?;
        let (Some(file), None) = (first.pop(), first.pop()) else { return Err(malformed("no file came first")) };
        let (names, state) = read_file(File::from(file))?;
        let mut sockets = Vec::with_capacity(names.len());
        while sockets.len() < names.len() {
            let came = receive_descriptors(channel)?;
            if came.is_empty() || sockets.len() + came.len() > names.len() {
                return Err(malformed("the sockets do not fit their names"));
            }
            sockets.extend(came);
        }
        Ok(Self { sockets: names.into_iter().zip(sockets).collect(), state })
    }
}

fn read_file(mut file: File) -> io::Result<(Vec<String>, Vec<u8>)> {
    // The place in the file is shared with whoever wrote it.
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    let mut line = || {
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        String::from_utf8(line.to_vec()).ok()
    };
    if line().as_deref() != Some(MAGIC) {
        return Err(malformed("it has another form than this version knows"));
    }
    let count = line().and_then(|count| count.parse::<usize>().ok()).filter(|count| *count <= SOCKETS_MAX);
    let count = count.ok_or_else(|| malformed("it does not say how many sockets there are"))?;
    let names: Option<Vec<String>> = (0..count).map(|_| line()).collect();
    Ok((names.ok_or_else(|| malformed("names are missing"))?, rest.to_vec()))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the offer cannot be read: {what}"))
}

/// Sends descriptors with one byte, as a message without any cannot carry them.
fn send_descriptors(channel: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PORTION))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors in a message"));
    }
    rustix::net::sendmsg(channel, &[io::IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the descriptors of one message.
fn receive_descriptors(channel: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PORTION))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let got = rustix::io::retry_on_intr(|| {
        let mut into = [io::IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(channel, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(descriptors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn sockets_and_state_arrive_with_their_names() {
        for count in [0, 1, PORTION, PORTION + 1, 200] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let sockets: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let named = |socket: &TcpListener| {
                let name = socket.local_addr().unwrap().to_string();
                (name, OwnedFd::from(socket.try_clone().unwrap()))
            };
            let state = b"line\n\0\xff".repeat(100_000);
            Offer { sockets: sockets.iter().map(named).collect(), state: state.clone() }.send(&ours).unwrap();
            let got = Offer::receive(&theirs).unwrap();
            assert_eq!(got.state, state);
            assert_eq!(got.sockets.len(), count);
            for (name, socket) in got.sockets {
                let flags = rustix::io::fcntl_getfd(&socket).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
                assert_eq!(TcpListener::from(socket).local_addr().unwrap().to_string(), name);
            }
        }
    }

    #[test]
    fn what_is_no_offer_is_refused() {
        let check = |send: &dyn Fn(&UnixStream), part: &str| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            send(&ours);
            drop(ours);
            let error = Offer::receive(&theirs).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        };
        let file_of = |text: &str| {
            let mut file = File::from(rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        check(&|_| {}, "end of file");
        check(&|to| (&mut &*to).write_all(b"hello").unwrap(), "no file came first");
        check(&|to| send_descriptors(to, &[file_of("hello\n").as_fd()]).unwrap(), "another form");
        check(&|to| send_descriptors(to, &[file_of(&format!("{MAGIC}\nx\n")).as_fd()]).unwrap(), "how many");
        check(&|to| send_descriptors(to, &[file_of(&format!("{MAGIC}\n9999\n")).as_fd()]).unwrap(), "how many");
        check(&|to| send_descriptors(to, &[file_of(&format!("{MAGIC}\n2\na\n")).as_fd()]).unwrap(), "names");
        let one_name = format!("{MAGIC}\n1\na\n");
        check(&|to| send_descriptors(to, &[file_of(&one_name).as_fd()]).unwrap(), "end of file");
        let too_many = |to: &UnixStream| {
            let file = file_of(&one_name);
            send_descriptors(to, &[file.as_fd()]).unwrap();
            send_descriptors(to, &[file.as_fd(), file.as_fd()]).unwrap();
        };
        check(&too_many, "do not fit");
    }
}
