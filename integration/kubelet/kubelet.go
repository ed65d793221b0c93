package main

import (
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// interval is how often the manifests are looked at.
const interval = 200 * time.Millisecond

// The pauses before a container that ended is started again.
const (
	pauseFirst = 200 * time.Millisecond
	pauseMax   = 5 * time.Second
	steady     = 10 * time.Second // what ran so long is not said to crash
)

// kubelet is what runs, against what shall.
type kubelet struct {
	manifests, state string
	running          map[string]*task // by pod and container
	moved            chan struct{}    // something ended
	known            map[string]*pod  // by manifest
	bad              map[string]string
}

func newKubelet(manifests, state string) (*kubelet, error) {
	k := &kubelet{manifests: manifests, state: state, running: map[string]*task{}, moved: make(chan struct{}, 1), bad: map[string]string{}}
	for _, dir := range []string{manifests, state} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	files, err := filepath.Glob(filepath.Join(state, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if t, err := k.adopt(f); err != nil {
			log.Printf("what %s says does not run any more: %v", filepath.Base(f), err)
			_ = os.Remove(f)
		} else {
			k.running[t.Key] = t
			log.Printf("%s still runs as %d", t.Key, t.PID)
		}
	}
	return k, nil
}

// sync looks at the folder once, and starts and stops.
func (k *kubelet) sync() {
	pods, bad := readPods(k.manifests)
	k.complain(bad)
	for path := range bad {
		if p := k.known[path]; p != nil {
			pods[path] = p // it may be being written
		}
	}
	k.known = pods
	want := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(pods)) {
		p := pods[path]
		for _, c := range p.Spec.Containers {
			name := p.key() + "_" + c.Name
			if want[name] {
				continue // two files with one pod: the first counts
			}
			want[name] = true
			t := k.running[name]
			if t != nil && t.Hash != p.hash {
				t.stop("its manifest has changed")
			}
			if t != nil && !t.gone() {
				continue
			}
			k.running[name] = k.start(name, p, c, t)
		}
	}
	for name, t := range k.running {
		switch {
		case want[name]:
		case t.gone():
			t.forget()
			delete(k.running, name)
		default:
			t.stop("its manifest is gone")
		}
	}
}

// complain logs what is new among the manifests that cannot be read.
func (k *kubelet) complain(bad map[string]error) {
	for path, err := range bad {
		if k.bad[path] != err.Error() {
			k.bad[path] = err.Error()
			log.Printf("%s: %v", path, err)
		}
	}
	for path := range k.bad {
		if bad[path] == nil {
			delete(k.bad, path)
		}
	}
}

// start starts a container, when its pause is over; before is the one that ended.
func (k *kubelet) start(name string, p *pod, c container, before *task) *task {
	pause := time.Duration(0)
	if before != nil && before.Hash == p.hash {
		if pause = before.next(); time.Since(before.endedAt) < pause {
			return before
		}
	}
	t := &task{Key: name, Hash: p.hash, Grace: p.grace(), file: filepath.Join(k.state, name+".json"), done: make(chan struct{}), started: time.Now(), pause: pause, wake: k.wake}
	if err := t.spawn(p, c); err != nil {
		log.Printf("%s: %v", name, err)
		t.finish()
		return t
	}
	log.Printf("%s runs as %d", name, t.PID)
	return t
}

// wake makes sync look at once.
func (k *kubelet) wake() {
	select {
	case k.moved <- struct{}{}:
	default:
	}
}
