// Kubelet is a stand-in for the kubelet, for tests on machines without containers. It runs the static pods of /etc/kubernetes/manifests as plain
// processes, so that what moves, edits and removes manifests can be tested against something that reacts to them as a kubelet does:
//
//   - a manifest that appears is run, one that goes is stopped (SIGTERM, and SIGKILL after terminationGracePeriodSeconds), one whose content changes is stopped and
//     run again; files that begin with a dot, and folders, are left alone, and no others: a copy with any other name is a manifest too;
//   - a manifest that cannot be read (any more) changes nothing (a real kubelet stops its pod when it looks again, within 20 s);
//   - a container that ends is started again, after a pause that grows;
//   - hostPath volumes that are mounted at another path are mounted there, for that container alone, and made when their type says so;
//   - what runs outlives the kubelet's own end and restart, as containers do (its unit must say KillMode=process).
//
// It does not: pull or look at images (a command is looked up in PATH, on the host's file system), isolate anything, probe anything (a real kubelet restarts what fails its
// liveness probe), run init containers or containers that end for good, honour resources or security contexts, report to an API server, or serve anything. It looks every
// 200 ms, where a real kubelet is told by the kernel, and looks every 20 s beside; its pauses are shorter.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == containerArg {
		fmt.Fprintln(os.Stderr, "kubelet:", enter(os.Args[2:]))
		os.Exit(126)
	}
	manifests := flag.String("manifests", "/etc/kubernetes/manifests", "folder of static pods")
	state := flag.String("state", "/run/kubelet-stand-in", "folder that says what runs")
	flag.Parse()
	log.SetFlags(0)
	k, err := newKubelet(*manifests, *state)
	if err != nil {
		log.Fatal(err)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	for tick := time.Tick(interval); ; {
		k.sync()
		select {
		case <-tick:
		case <-k.moved:
		case <-end:
			return
		}
	}
}
