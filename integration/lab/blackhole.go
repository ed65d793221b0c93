package lab

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// holeFull is how long a connection on loopback takes at most.
const holeFull = 200 * time.Millisecond

// BlackHole is an address that swallows every packet, as a host does whose cable was pulled: a socket that accepts nothing and whose backlog is full, so that
// the kernel drops what asks for a connection.
func BlackHole(t T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("make a black hole: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("make a black hole: %v", err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatalf("make a black hole: %v", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatalf("make a black hole: %v", err)
	}
	in4, ok := name.(*unix.SockaddrInet4)
	if !ok {
		t.Fatalf("make a black hole: %T", name)
	}
	addr := net.TCPAddr{IP: in4.Addr[:], Port: in4.Port}
	// The backlog of 0 holds one connection; then nothing is answered any more.
	for range 8 {
		conn, err := net.DialTimeout("tcp", addr.String(), holeFull)
		if err != nil {
			return addr.String()
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatalf("make a black hole: it still takes connections")
	return ""
}
