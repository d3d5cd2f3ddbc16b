//! A loopback port that stays ours while its server is down, so that no other test can get it meanwhile.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// A reserved port. It holds a socket that is bound but does not listen: connections are refused, the
/// kernel gives the port to nobody who asks for any, and a server that sets `SO_REUSEADDR` (all of ours
/// do) can still listen on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reservation: Socket,
}

impl Port {
    pub fn reserve() -> Self {
        let socket = bound(0);
        let address = socket.local_addr().expect("a bound socket has an address");
        let number = address.as_socket().expect("the socket is an IPv4 one").port();
        Self { number, _reservation: socket }
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }

    /// Listens on the port, beside the reservation.
    pub fn listen(&self) -> TcpListener {
        let socket = bound(self.number);
        socket.listen(1024).expect("nobody else listens on a reserved port");
        socket.into()
    }
}

fn bound(port: u16) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a TCP socket can be made");
    socket.set_reuse_address(true).expect("SO_REUSEADDR exists");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("a loopback port can be bound");
    socket
}
