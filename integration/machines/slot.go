package machines

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed rootfs
var recipe []byte

// recipeHash is what integration/setup puts into the folder's name.
func recipeHash() string {
	sum := sha256.Sum256(recipe)
	return hex.EncodeToString(sum[:])[:12]
}

// slots is where the numbers of the running Nets are locked. It must be the same for all processes on this host, whatever their TMPDIR.
const slots = "/run/etcd-steward-machines"

// dirPrefix begins the name of every folder that machines' disks are in.
const dirPrefix = "steward-machines-"

// slot is a number that one Net has alone on this host: its subnet, and the names of its bridge, links, namespaces and control groups come from it. The
// kernel drops the lock when the owner dies; the next who locks the same file finds the owner's folder in it and clears what is left.
type slot struct {
	n    int
	file *os.File
	dir  string // of the disks

	released bool // whatever bears the number is another's
}

// claim locks a free slot. Whatever a killed owner left there, or in any other slot, is cleared.
func claim() (*slot, error) {
	if err := os.MkdirAll(slots, 0o700); err != nil {
		return nil, err
	}
	sweep()
	const first, last = 1, 200
	var stuck error
	for n := first; n <= last; n++ {
		s, err := lock(n)
		if err != nil {
			stuck = err
		}
		if s == nil {
			continue
		}
		if s.taken() {
			s.release()
			continue
		}
		if s.dir, err = os.MkdirTemp("", dirPrefix); err == nil {
			err = os.Chmod(s.dir, 0o755) // services inside run as other users
		}
		if err == nil {
			_, err = s.file.WriteAt([]byte(s.dir), 0)
		}
		if err != nil {
			s.release()
			return nil, err
		}
		return s, nil
	}
	return nil, errors.Join(fmt.Errorf("all of the %d subnets are in use: %s", last, slots), stuck)
}

// sweep clears the slots whose owners are gone.
func sweep() {
	names, _ := filepath.Glob(filepath.Join(slots, "*"))
	for _, name := range names {
		if n, err := strconv.Atoi(filepath.Base(name)); err == nil {
			if s, err := lock(n); err == nil && s != nil {
				s.release()
			}
		}
	}
}

// lock takes slot n, and clears what a killed owner left in it. It returns nil when another has it.
func lock(n int) (*slot, error) {
	f, err := os.OpenFile(filepath.Join(slots, strconv.Itoa(n)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, err
	}
	s := &slot{n: n, file: f}
	left, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		s.release()
		return nil, err
	}
	if s.dir = string(left); s.dir != "" {
		if err := s.clear(); err != nil {
			s.release()
			return nil, fmt.Errorf("clear what a killed run left in slot %d: %w", n, err)
		}
	}
	return s, nil
}

// release gives the slot back. The file stays: removing it would let two hold the same number.
func (s *slot) release() {
	_ = s.file.Close()
	s.released = true
}

// taken says whether an interface of this host is in the slot's subnet already.
func (s *slot) taken() bool {
	_, subnet, err := net.ParseCIDR(s.ip(0) + "/24")
	if err != nil {
		panic(err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if have, ok := a.(*net.IPNet); ok && (subnet.Contains(have.IP) || have.Contains(subnet.IP)) {
			return true
		}
	}
	return false
}

func (s *slot) ip(host int) string  { return fmt.Sprintf("10.213.%d.%d", s.n, host) }
func (s *slot) ip6(host int) string { return fmt.Sprintf("fd5e:7e0a:d:%x::%x", s.n, host) }

// name is the bridge's, and with a machine's number the name of its link, network namespace and control groups.
func (s *slot) name() string        { return fmt.Sprintf("stw%d", s.n) }
func (s *slot) link(i int) string   { return fmt.Sprintf("stw%dm%d", s.n, i) }
func (s *slot) folder(i int) string { return filepath.Join(s.dir, fmt.Sprintf("m%d", i)) }

func (s *slot) bridge(ipv6 bool) error {
	script := fmt.Sprintf(`link add %[1]s address 02:5e:7e:00:%02[2]x:01 type bridge stp_state 0 mcast_snooping 0
addr add %[3]s/24 dev %[1]s
link set %[1]s up
`, s.name(), s.n, s.ip(1))
	if ipv6 {
		script += fmt.Sprintf("addr add %s/64 dev %s nodad\n", s.ip6(1), s.name())
	}
	return ip(script)
}

// clear ends what runs in the slot's namespaces and removes everything that bears its number. What is not there is no error.
func (s *slot) clear() error {
	if s.released {
		return nil
	}
	var errs []error
	for i := 1; i <= maxCount; i++ {
		ns := s.link(i)
		if _, err := os.Stat(filepath.Join("/run/netns", ns)); err == nil {
			errs = append(errs, killAll(ns))
			// The kernel ends a namespace later; its cable, whose name the next one needs, goes at once.
			if _, err := net.InterfaceByName(ns); err == nil {
				errs = append(errs, ip("link del "+ns))
			}
			errs = append(errs, ip("netns del "+ns))
		}
		if err := unix.Unmount(filepath.Join(s.folder(i), "root"), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount the disk of %s: %w", ns, err))
		}
		errs = append(errs, removeCgroups(ns))
	}
	if _, err := net.InterfaceByName(s.name()); err == nil {
		errs = append(errs, ip("link del "+s.name()))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if s.dir != "" && strings.HasPrefix(filepath.Base(s.dir), dirPrefix) {
		if err := os.RemoveAll(s.dir); err != nil {
			return err
		}
	}
	s.dir = ""
	return s.file.Truncate(0)
}

// killAll ends every process in a network namespace of ours, and waits until they are gone.
func killAll(ns string) error {
	for range 200 {
		out, err := exec.Command("ip", "netns", "pids", ns).Output()
		if err != nil {
			return fmt.Errorf("list what runs in %s: %w", ns, err)
		}
		pids := strings.Fields(string(out))
		if len(pids) == 0 {
			return nil
		}
		for _, p := range pids {
			if pid, err := strconv.Atoi(p); err == nil && pid > 1 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		time.Sleep(20 * time.Millisecond) // no event tells that another's children are gone
	}
	return fmt.Errorf("what runs in %s does not end", ns)
}

// ip runs lines of ip's batch language.
func ip(script string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %q: %w: %s", script, err, bytes.TrimSpace(out))
	}
	return nil
}
