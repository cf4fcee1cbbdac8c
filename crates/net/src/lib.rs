//! What every data path needs from the machine: worker cores, listening sockets, deadlines, buffers and splicing.
//!
//! Everything here but [`listen`], [`inherit`], [`handover`], [`lock`], [`pace`], the count of wide pipes, connections of [`together`], which may change cores, and the inboxes
//! of [`workers`] belongs to one core: it is not shared, takes no lock, and is reached through `Rc`.

pub mod bare;
pub mod buffer;
pub mod deadline;
pub mod handover;
pub mod inherit;
pub mod listen;
pub mod lock;
pub mod pace;
pub mod sendfile;
pub mod splice;
pub mod stream;
pub mod tls;
pub mod together;
pub mod workers;

pub use buffer::{Buffer, Buffers};
pub use deadline::{Deadline, Deadlines, Expired};
pub use lock::Lock;
pub use pace::connect;
pub use sendfile::poll_send_file;
pub use splice::{Pipe, Pipes};
pub use stream::{Reader, Stream, Writer};
pub use together::Gathered;
