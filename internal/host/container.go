package host

import (
	"path"
	"strings"
)

// runtimes are the programs whose `run` starts a container.
var runtimes = map[string]bool{"docker": true, "podman": true, "nerdctl": true}

// containerRun is what a `docker run` says.
type containerRun struct {
	mounts   []Mount
	env      map[string]string
	envFiles []string
	passed   []string // variables whose values are those of the runtime's own environment
	image    string
	command  []argument // after the image
}

// runToggles are options of `run` that take no value from the next word.
var runToggles = map[string]bool{
	"detach": true, "disable-content-trust": true, "init": true, "interactive": true, "no-healthcheck": true, "oom-kill-disable": true, "privileged": true,
	"publish-all": true, "quiet": true, "read-only": true, "replace": true, "rm": true, "sig-proxy": true, "tls-verify": true, "tty": true,
	"d": true, "i": true, "t": true, "P": true, "q": true,
}

// parseRun reads the words of a command line such as `docker run -v /a:/b --net=host image etcd --name=x`; ok is false for anything else.
func parseRun(words []argument) (run containerRun, ok bool) {
	i := 0
	if len(words) == 0 || !runtimes[path.Base(words[0].text)] {
		return run, false
	}
	for i = 1; i < len(words) && words[i].text != "run"; i++ {
		if i > 8 {
			return run, false
		}
	}
	run.env = map[string]string{}
	for i++; i < len(words); i++ {
		text := words[i].text
		if !strings.HasPrefix(text, "-") || text == "-" {
			run.image, run.command = text, words[i+1:]
			return run, true
		}
		name, value, found := strings.Cut(strings.TrimLeft(text, "-"), "=")
		if short := !strings.HasPrefix(text, "--"); short && len(name) > 1 {
			switch {
			case runToggles[name[:1]]: // -it, -d
				continue
			case !found: // -v/a:/b
				name, value, found = name[:1], name[1:], true
			default:
				name, value = name[:1], strings.TrimLeft(text, "-")[1:]
			}
		}
		if !found && !runToggles[name] {
			if i++; i == len(words) {
				return run, false
			}
			value = words[i].text
		}
		run.option(name, value)
	}
	return run, false
}

func (r *containerRun) option(name, value string) {
	switch name {
	case "v", "volume":
		if host, rest, ok := strings.Cut(value, ":"); ok && strings.HasPrefix(host, "/") {
			inside, _, _ := strings.Cut(rest, ":")
			r.mounts = append(r.mounts, Mount{Host: path.Clean(host), Inside: path.Clean(inside)})
		}
	case "mount":
		var m Mount
		bind := false
		for field := range strings.SplitSeq(value, ",") {
			switch key, text, _ := strings.Cut(field, "="); key {
			case "type":
				bind = text == "bind"
			case "source", "src":
				m.Host = text
			case "target", "dst", "destination":
				m.Inside = text
			}
		}
		if bind && m.Host != "" && m.Inside != "" {
			r.mounts = append(r.mounts, Mount{Host: path.Clean(m.Host), Inside: path.Clean(m.Inside)})
		}
	case "e", "env":
		if key, text, ok := strings.Cut(value, "="); ok {
			r.env[key] = text
		} else {
			r.passed = append(r.passed, value)
		}
	case "env-file":
		r.envFiles = append(r.envFiles, value)
	}
}

// program is what runs in the container, and its arguments: the command, or what an image of that name starts by itself.
func (r *containerRun) program() (string, []argument) {
	if len(r.command) > 0 && !strings.HasPrefix(r.command[0].text, "-") {
		return path.Base(r.command[0].text), r.command[1:]
	}
	return imageName(r.image), r.command
}

// imageName is the last part of an image's repository: etcd of quay.io/coreos/etcd:v3.5.9.
func imageName(image string) string {
	name, _, _ := strings.Cut(path.Base(image), "@")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// hostPath is what a path inside of a container is called on the machine.
func hostPath(mounts []Mount, name string) (string, bool) {
	name = path.Clean(name)
	best, found := Mount{}, false
	for _, m := range mounts {
		inside := strings.TrimSuffix(m.Inside, "/")
		if (name == m.Inside || strings.HasPrefix(name, inside+"/")) && len(m.Inside) >= len(best.Inside) {
			best, found = m, true
		}
	}
	return path.Join(best.Host, strings.TrimPrefix(name, strings.TrimSuffix(best.Inside, "/"))), found
}
