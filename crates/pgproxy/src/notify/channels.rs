//! Who listens to what in a database, and what the server has to be asked for that.
//!
//! The server is asked for a bounded number of channels at once, and whoever wants many takes turns with others. A channel that nobody wants any
//! more is taken back, also where it was being asked for when that became so: what a server listens to in vain slows it down for good.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Mailbox, Notice, State};

/// Channels that are asked for at once, and that are taken back. A server looks through all that it listens to for each.
const BATCH_MAX: usize = 256;

/// The channels of a database.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// Those that the server listens to, with who wants that, by the number of the session.
    listened: HashMap<String, HashMap<u64, Arc<Mailbox>>>,
    /// To how many channels a session listens, if to any.
    sessions: HashMap<u64, usize>,
    /// Those of them that were wanted by nobody at some time since they were looked at.
    emptied: Vec<String>,
    /// What has to be listened to.
    wanted: VecDeque<Wanted>,
    /// What the server has been asked for.
    asked: Vec<Asked>,
    /// Told when the server has answered: those of whom it is all.
    answers: Vec<oneshot::Sender<()>>,
    /// Whether somebody asks.
    pub(super) is_running: bool,
}

/// Channels that a session begins to listen to.
#[derive(Debug)]
struct Wanted {
    channels: Vec<String>,
    mailbox: Arc<Mailbox>,
    /// Told when they are listened to; dropped when that cannot be.
    done: oneshot::Sender<()>,
}

/// A channel that the server has been asked for, and for whom; for nobody if it was taken back meanwhile.
#[derive(Debug)]
struct Asked {
    channel: String,
    mailbox: Option<Arc<Mailbox>>,
}

impl Channels {
    /// A session begins to listen to channels: when it does, the receiver hears of it.
    pub(super) fn want(&mut self, channels: Vec<String>, mailbox: &Arc<Mailbox>) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        self.wanted.push_back(Wanted { channels, mailbox: Arc::clone(mailbox), done });
        receiver
    }

    /// A session does not listen to channels any more.
    pub(super) fn unwant(&mut self, session: u64, channels: &[String]) {
        for channel in channels {
            if let Some(who) = self.listened.get_mut(channel) {
                if who.remove(&session).is_some() {
                    listens_less(&mut self.sessions, session);
                }
                if who.is_empty() {
                    self.emptied.push(channel.clone());
                }
            }
        }
        let is_of = |mailbox: &Arc<Mailbox>| mailbox.session == session;
        let (mut wanted, mut asked) = (self.wanted.iter_mut(), self.asked.iter_mut());
        let wanted = wanted.by_ref().filter(|wanted| is_of(&wanted.mailbox)).collect::<Vec<_>>();
        let asked = asked.by_ref().filter(|asked| asked.mailbox.as_ref().is_some_and(is_of)).collect::<Vec<_>>();
        if wanted.is_empty() && asked.is_empty() {
            return;
        }
        let channels: BTreeSet<&String> = channels.iter().collect();
        wanted.into_iter().for_each(|wanted| wanted.channels.retain(|channel| !channels.contains(channel)));
        asked.into_iter().filter(|asked| channels.contains(&asked.channel)).for_each(|asked| asked.mailbox = None);
    }

    /// How many sessions listen.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// What the server is to be asked next, if anything: to listen to what is wanted, and no more to what nobody wants. Channels that are
    /// listened to already are asked for again, so that who comes to one hears nothing from before. Nothing may be asked that is not answered.
    pub(super) fn next_text(&mut self) -> Option<String> {
        while let Some(mut next) = self.wanted.pop_front() {
            let room = BATCH_MAX - self.asked.len();
            let left = next.channels.len().saturating_sub(room);
            let mailbox = &next.mailbox;
            let asked = next.channels.drain(left..);
            self.asked.extend(asked.map(|channel| Asked { channel, mailbox: Some(Arc::clone(mailbox)) }));
            if left == 0 {
                self.answers.push(next.done);
            } else {
                // Others come first before it has all.
                self.wanted.push_back(next);
                break;
            }
        }
        let mut text = String::new();
        let asked: BTreeSet<&str> = self.asked.iter().map(|asked| asked.channel.as_str()).collect();
        for channel in self.emptied.drain(..self.emptied.len().min(BATCH_MAX)) {
            let is_empty = self.listened.get(&channel).is_some_and(HashMap::is_empty);
            if is_empty && !asked.contains(channel.as_str()) {
                self.listened.remove(&channel);
                text.push_str(&format!("UNLISTEN {};", quoted(&channel)));
            }
        }
        for channel in asked {
            text.push_str(&format!("LISTEN {};", quoted(channel)));
        }
        if text.is_empty() {
            // What was wanted has been taken back meanwhile.
            self.has_asked();
        }
        (!text.is_empty()).then_some(text)
    }

    /// The server has done what it was asked.
    pub(super) fn has_asked(&mut self) {
        for Asked { channel, mailbox } in self.asked.drain(..) {
            let who = self.listened.entry(channel.clone()).or_default();
            if let Some(mailbox) = mailbox.filter(|mailbox| mailbox.state() == State::Open) {
                let session = mailbox.session;
                if who.insert(session, mailbox).is_none() {
                    *self.sessions.entry(session).or_default() += 1;
                }
            }
            if who.is_empty() {
                self.emptied.push(channel);
            }
        }
        for done in self.answers.drain(..) {
            // It may have gone.
            let _gone = done.send(());
        }
    }

    /// Something was said on a channel, by `pid`: how many hear of it.
    pub(super) fn tell(&self, pid: i32, channel: &str, payload: &[u8]) -> usize {
        let Some(who) = self.listened.get(channel) else { return 0 };
        let notice = Arc::new(Notice { pid, channel: channel.to_owned(), payload: payload.to_vec() });
        who.values().for_each(|mailbox| mailbox.put(&notice));
        who.len()
    }

    /// The connection is lost: how many sessions hear of that.
    pub(super) fn lose(&mut self) -> usize {
        let mut lost = std::collections::HashSet::new();
        self.sessions.clear();
        let listened = std::mem::take(&mut self.listened).into_values().flat_map(HashMap::into_values);
        let wanted = self.wanted.drain(..).map(|wanted| wanted.mailbox);
        let asked = self.asked.drain(..).filter_map(|asked| asked.mailbox);
        for mailbox in listened.chain(wanted).chain(asked) {
            mailbox.close(State::Lost);
            lost.insert(mailbox.session);
        }
        self.emptied.clear();
        self.answers.clear();
        lost.len()
    }

    /// Another connection begins, for those who wanted something when nobody listened.
    pub(super) fn begin_anew(&mut self) {
        self.listened.clear();
        self.sessions.clear();
        self.emptied.clear();
    }

    /// Whether something is wanted that the server was not asked for.
    pub(super) fn is_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Nobody can ask for what is wanted.
    pub(super) fn refuse(&mut self) {
        self.wanted.clear();
    }

    /// Whether nobody listens.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.asked.is_empty() && self.listened.values().all(HashMap::is_empty)
    }
}

/// A session listens to one channel less.
fn listens_less(sessions: &mut HashMap<u64, usize>, session: u64) {
    if let Entry::Occupied(mut channels) = sessions.entry(session) {
        *channels.get_mut() -= 1;
        if *channels.get() == 0 {
            channels.remove();
        }
    }
}

fn quoted(channel: &str) -> String {
    format!("\"{}\"", channel.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(channels: &[&str]) -> Vec<String> {
        channels.iter().map(|channel| (*channel).to_owned()).collect()
    }

    #[test]
    fn what_is_taken_back_while_it_is_asked_for_is_not_listened_to_for_good() {
        let mut channels = Channels::default();
        let (steady, one) = (Mailbox::new(1, 10), Mailbox::new(2, 10));
        let mut done = channels.want(names(&["a"]), &steady);
        assert_eq!(channels.next_text().unwrap(), "LISTEN \"a\";");
        channels.has_asked();
        done.try_recv().unwrap();
        // It goes while the server is asked.
        let _gone = channels.want(names(&["b"]), &one);
        assert_eq!(channels.next_text().unwrap(), "LISTEN \"b\";");
        channels.unwant(2, &names(&["b"]));
        channels.has_asked();
        assert_eq!(channels.next_text().unwrap(), "UNLISTEN \"b\";");
        channels.has_asked();
        assert_eq!((channels.next_text(), channels.listened.len(), channels.emptied.len()), (None, 1, 0));
        // The same before it was asked, and of one that is wanted again before it was taken back.
        let mut done = channels.want(names(&["b"]), &one);
        channels.unwant(2, &names(&["b"]));
        assert_eq!(channels.next_text(), None);
        done.try_recv().unwrap();
        channels.unwant(1, &names(&["a"]));
        let _done = channels.want(names(&["a"]), &one);
        assert_eq!(channels.next_text().unwrap(), "LISTEN \"a\";");
        channels.has_asked();
        assert_eq!((channels.next_text(), channels.tell(7, "a", b"")), (None, 1));
        assert!(!channels.is_idle());
        channels.unwant(2, &names(&["a"]));
        assert_eq!(channels.next_text().unwrap(), "UNLISTEN \"a\";");
        assert!(channels.is_idle());
    }

    #[test]
    fn a_session_is_counted_once_as_long_as_it_listens_to_anything() {
        let mut channels = Channels::default();
        let (one, two) = (Mailbox::new(1, 10), Mailbox::new(2, 10));
        let listen = |channels: &mut Channels, mailbox: &Arc<Mailbox>, names: Vec<String>| {
            let _done = channels.want(names, mailbox);
            while channels.next_text().is_some() {
                channels.has_asked();
            }
            // As it was counted before: by a look at all of them.
            let walked: std::collections::HashSet<_> = channels.listened.values().flat_map(HashMap::keys).collect();
            assert_eq!(walked.len(), channels.sessions());
            channels.sessions()
        };
        assert_eq!(listen(&mut channels, &one, names(&["a", "b"])), 1);
        assert_eq!(listen(&mut channels, &one, names(&["a"])), 1, "again");
        assert_eq!(listen(&mut channels, &two, names(&["b", "b"])), 2);
        channels.unwant(1, &names(&["a", "x"]));
        assert_eq!(channels.sessions(), 2);
        channels.unwant(1, &names(&["a", "b"]));
        assert_eq!(channels.sessions(), 1);
        channels.unwant(2, &names(&["b", "b"]));
        assert_eq!(channels.sessions(), 0);
        // What is closed meanwhile listens to nothing.
        two.close(State::Gone);
        assert_eq!(listen(&mut channels, &two, names(&["c"])), 0);
        assert_eq!((listen(&mut channels, &one, names(&["c"])), channels.lose(), channels.sessions()), (1, 1, 0));
    }

    #[test]
    fn whoever_wants_many_takes_turns_with_others() {
        let mut channels = Channels::default();
        let (greedy, modest) = (Mailbox::new(1, 10), Mailbox::new(2, 10));
        let many: Vec<_> = (0..5 * BATCH_MAX).map(|number| format!("c{number}")).collect();
        let (mut all, mut one) = (channels.want(many.clone(), &greedy), channels.want(names(&["a"]), &modest));
        let mut texts = 0;
        while let Some(text) = channels.next_text() {
            assert!(text.matches(';').count() <= 2 * BATCH_MAX, "{}", text.len());
            channels.has_asked();
            texts += 1;
            // The second batch is the latest for whoever wants one.
            assert_eq!(one.try_recv().is_ok(), texts == 2, "{texts}");
            if texts == 1 {
                assert!(all.try_recv().is_err());
            }
        }
        all.try_recv().unwrap();
        assert_eq!((texts, channels.listened.len()), (6, 5 * BATCH_MAX + 1));
        channels.unwant(1, &many);
        let texts: Vec<_> = std::iter::from_fn(|| channels.next_text()).collect();
        assert_eq!((texts.len(), channels.listened.len()), (5, 1));
        assert_eq!((channels.lose(), modest.state()), (1, State::Lost));
    }
}
