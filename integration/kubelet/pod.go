package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// pod is what is looked at of a manifest.
type pod struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Spec     struct {
		Containers                    []container
		Volumes                       []volume
		TerminationGracePeriodSeconds *int `yaml:"terminationGracePeriodSeconds"`
	}

	hash string // of the manifest
}

type container struct {
	Name          string
	Command, Args []string
	Env           []struct{ Name, Value string }
	WorkingDir    string `yaml:"workingDir"`
	VolumeMounts  []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type volume struct {
	Name     string
	HostPath *struct{ Path, Type string } `yaml:"hostPath"`
}

// maxManifest bounds what is read of a manifest.
const maxManifest = 1 << 20

// readPods reads a folder: the pods, and what cannot be read, by path.
func readPods(dir string) (pods map[string]*pod, bad map[string]error) {
	pods, bad = map[string]*pod{}, map[string]error{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		bad[dir] = err
		return pods, bad
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		p, err := readPod(path)
		if err != nil {
			bad[path] = err
			continue
		}
		pods[path] = p
	}
	return pods, bad
}

func readPod(path string) (*pod, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) > maxManifest {
		return nil, errors.New("too large")
	}
	p := &pod{}
	if err := yaml.NewDecoder(bytes.NewReader(b)).Decode(p); err != nil {
		return nil, err
	}
	if p.Kind != "Pod" || p.Metadata.Name == "" || len(p.Spec.Containers) == 0 {
		return nil, fmt.Errorf("a %q without a name or containers is no pod", p.Kind)
	}
	for _, c := range p.Spec.Containers {
		if c.Name == "" || len(c.Command) == 0 {
			return nil, errors.New("a container needs a name, and here also a command: there is no image that has one")
		}
	}
	sum := sha256.Sum256(b)
	p.hash = hex.EncodeToString(sum[:8])
	return p, nil
}

// key tells pods apart.
func (p *pod) key() string {
	ns := p.Metadata.Namespace
	if ns == "" {
		ns = "default"
	}
	return ns + "_" + p.Metadata.Name
}

// grace is how long its containers have between SIGTERM and SIGKILL.
func (p *pod) grace() time.Duration {
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 30 * time.Second
}

// mounts are the container's volumes whose paths differ, as FROM:TO; folders that shall exist are made.
func (p *pod) mounts(c container) ([]string, error) {
	var out []string
	for _, m := range c.VolumeMounts {
		for _, v := range p.Spec.Volumes {
			if v.Name != m.Name || v.HostPath == nil {
				continue
			}
			if err := provide(v.HostPath.Path, v.HostPath.Type); err != nil {
				return nil, fmt.Errorf("volume %s: %w", v.Name, err)
			}
			if filepath.Clean(v.HostPath.Path) != filepath.Clean(m.MountPath) {
				out = append(out, v.HostPath.Path+":"+m.MountPath)
			}
		}
	}
	return out, nil
}

// provide makes what a hostPath's type says, or says that it is not there.
func provide(path, kind string) error {
	st, err := os.Stat(path)
	switch {
	case kind == "":
		return nil
	case err == nil && strings.HasPrefix(kind, "Directory") != st.IsDir():
		return fmt.Errorf("%s is no %s", path, kind)
	case err == nil:
		return nil
	case kind == "DirectoryOrCreate":
		return os.MkdirAll(path, 0o755)
	case kind == "FileOrCreate":
		f, err := os.OpenFile(path, os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	}
	return err
}
