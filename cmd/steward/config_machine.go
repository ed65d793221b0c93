package main

import (
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"etcd-steward/internal/host"
	"etcd-steward/internal/term"
)

// shownMachine is what `config show` says of the machine it runs on.
type shownMachine struct {
	Etcds    []shownEtcd      `json:"etcds"`
	Parts    []shownPart      `json:"control_plane"`
	Owner    *shownOwner      `json:"owner,omitempty"`
	Places   []shownPlace     `json:"prepared_for,omitempty"`
	Problems []string         `json:"problems,omitempty"`
	machine  *host.Machine    // what was found
	now      func() time.Time // for the age of certificates
}

// shownPlace is where an etcd could be made.
type shownPlace struct {
	Kind host.Kind `json:"kind"`
	File string    `json:"file"`
	Why  string    `json:"why"`
	PKI  *host.PKI `json:"certificates,omitempty"`
}

type shownEtcd struct {
	Name      string    `json:"name"`
	Kind      host.Kind `json:"kind"`
	Unit      string    `json:"unit,omitempty"`
	Manifest  string    `json:"manifest,omitempty"`
	Container string    `json:"container,omitempty"`
	Held      bool      `json:"held,omitempty"`
	Files     []string  `json:"files"`
	Member    string    `json:"member"`
	// Data and WAL are as this machine sees them.
	Data         *host.Folder            `json:"data,omitempty"`
	WAL          *host.Folder            `json:"wal,omitempty"`
	Settings     map[string]shownSetting `json:"settings"`
	Ignored      []string                `json:"ignored,omitempty"`
	Certificates []host.Certificate      `json:"certificates,omitempty"`
	Problem      string                  `json:"problem,omitempty"`
}

type shownSetting struct {
	Value string `json:"value"`
	From  string `json:"from"`
}

type shownPart struct {
	Name        string    `json:"name"`
	Program     string    `json:"program"`
	Kind        host.Kind `json:"kind"`
	File        string    `json:"file"`
	Held        bool      `json:"held,omitempty"`
	EtcdServers []string  `json:"etcd_servers,omitempty"`
}

type shownOwner struct {
	Name     string            `json:"name"`
	Evidence string            `json:"evidence"`
	Commands map[string]string `json:"commands"`
}

// showMachine puts what was found into the answer's words.
func showMachine(m *host.Machine) shownMachine {
	out := shownMachine{Etcds: []shownEtcd{}, Parts: []shownPart{}, machine: m, now: time.Now}
	for i := range m.Etcds {
		out.Etcds = append(out.Etcds, showEtcd(m, &m.Etcds[i]))
	}
	for i := range m.Parts {
		p := &m.Parts[i]
		out.Parts = append(out.Parts, shownPart{Name: p.Name, Program: p.Program, Kind: p.Kind, File: p.File(), Held: p.Held, EtcdServers: p.EtcdServers()})
	}
	if o := m.Owner; o != nil {
		out.Owner = &shownOwner{Name: o.Name, Evidence: o.Evidence, Commands: map[string]string{}}
		for _, op := range host.Operations {
			out.Owner.Commands[string(op)] = o.Native(op)
		}
	}
	for _, p := range m.Places() {
		out.Places = append(out.Places, shownPlace{Kind: p.Kind, File: p.File, Why: p.Why, PKI: p.PKI})
	}
	for _, p := range m.Problems {
		out.Problems = append(out.Problems, p.String())
	}
	return out
}

func showEtcd(m *host.Machine, e *host.Etcd) shownEtcd {
	out := shownEtcd{
		Name: e.Name, Kind: e.Kind, Unit: e.Unit, Manifest: e.Manifest, Container: e.Image, Held: e.Held, Files: e.Files, Member: e.Member(),
		Settings: map[string]shownSetting{}, Ignored: slices.Sorted(maps.Keys(e.Ignored)), Certificates: m.Certificates(e),
	}
	for name, s := range e.Settings {
		out.Settings[name] = shownSetting{Value: printable(name, s.Value), From: s.Source}
	}
	if e.Unclear != nil {
		out.Problem = e.Unclear.Error()
		return out
	}
	var problems []string
	for _, f := range []struct {
		path func() (string, error)
		to   **host.Folder
	}{{e.DataDir, &out.Data}, {e.WALDir, &out.WAL}} {
		dir, err := f.path()
		if err == nil && dir == "" {
			continue
		}
		var folder host.Folder
		if err == nil {
			folder, err = host.Look(m.Path(dir))
			folder.Path = dir
			*f.to = &folder
		}
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	out.Problem = strings.Join(problems, "; ")
	return out
}

// printable is a setting's value without secrets: the password for a discovery service is one, and URLs may hold another.
func printable(flag, value string) string {
	if strings.HasSuffix(flag, "password") && value != "" {
		return "(not shown)"
	}
	all := strings.Split(value, ",")
	for i, part := range all {
		name, raw, named := strings.Cut(part, "=")
		if !named || !strings.Contains(raw, "://") {
			name, raw, named = "", part, false
		}
		if u, err := url.Parse(raw); err == nil && u.User != nil && u.Host != "" {
			raw = u.Redacted()
		}
		if all[i] = raw; named {
			all[i] = name + "=" + raw
		}
	}
	return strings.Join(all, ",")
}

// write is the answer for people: what is not there is not mentioned.
func (s shownMachine) write(w io.Writer) error {
	var fields []term.Field
	for _, e := range s.Etcds {
		fields = append(fields, s.etcd(e)...)
	}
	for i, p := range s.Parts {
		name := ""
		if i == 0 {
			name = "Control plane"
		}
		text := p.Program + ": " + string(p.Kind) + " " + p.File + heldText(p.Held)
		if len(p.EtcdServers) > 0 {
			text += ", asks " + strings.Join(p.EtcdServers, ", ")
		}
		fields = append(fields, term.Field{Name: name, Value: text})
	}
	if s.Owner != nil {
		fields = append(fields, term.Field{Name: "Distribution", Value: s.Owner.Name + " owns this machine's etcd (" + s.Owner.Evidence + "): steward backs it up and changes nothing"})
		for _, op := range host.Operations {
			fields = append(fields, term.Field{Value: "to " + string(op) + ": " + s.Owner.Commands[string(op)]})
		}
	}
	for i, p := range s.Places {
		name := ""
		if i == 0 {
			name = "Prepared for"
		}
		with := "; no certificates lie ready"
		if p.PKI != nil {
			with = "; with " + p.PKI.Cert
		}
		fields = append(fields, term.Field{Name: name, Value: "an etcd as " + string(p.Kind) + ", " + p.File + " (" + p.Why + with + ")"})
	}
	for i, p := range s.Problems {
		name := ""
		if i == 0 {
			name = "Not understood"
		}
		fields = append(fields, term.Field{Name: name, Value: p})
	}
	if len(fields) == 0 {
		fields = []term.Field{{Name: "etcd", Value: "none was found on this machine"}}
	}
	return term.Fields(w, fields)
}

func (s shownMachine) etcd(e shownEtcd) []term.Field {
	what := e.Name + ": " + string(e.Kind) + " " + e.Unit + e.Manifest
	if e.Container != "" {
		what += ", container " + e.Container
	}
	value := func(flag string) string { return strings.ReplaceAll(e.Settings[flag].Value, ",", ", ") }
	fields := []term.Field{
		{Name: "etcd", Value: what + heldText(e.Held)},
		{Name: "  Member", Value: e.Member},
		{Name: "  Files", Value: strings.Join(e.Files, ", ")},
		{Name: "  Data", Value: folderText(e.Data)},
		{Name: "  WAL", Value: folderText(e.WAL)},
		{Name: "  Client URLs", Value: value("listen-client-urls")},
		{Name: "  Advertised", Value: value("advertise-client-urls")},
		{Name: "  Peer URLs", Value: value("listen-peer-urls")},
		{Name: "  Advertised", Value: value("initial-advertise-peer-urls")},
		{Name: "  Initial cluster", Value: value("initial-cluster")},
		{Name: "  Ignored", Value: strings.Join(e.Ignored, ", ")},
		{Name: "  Problem", Value: e.Problem},
	}
	for i, c := range e.Certificates {
		name := ""
		if i == 0 {
			name = "  Certificates"
		}
		fields = append(fields, term.Field{Name: name, Value: c.Use + ": " + c.Path + ", " + expiry(c, s.now())})
	}
	return fields
}

func heldText(held bool) string {
	if held {
		return ", kept from starting"
	}
	return ""
}

func folderText(f *host.Folder) string {
	switch {
	case f == nil:
		return ""
	case !f.Exists:
		return f.Path + ", does not exist"
	}
	text := fmt.Sprintf("%s, %s, mode %04o", f.Path, f.Owner, f.Mode)
	if f.Mount {
		text += ", a mount point"
	}
	if f.Empty {
		text += ", empty"
	}
	return text
}

// expiry is when a certificate ends, for people.
func expiry(c host.Certificate, now time.Time) string {
	switch days := int(c.NotAfter.Sub(now).Hours() / 24); {
	case c.Err != "":
		return c.Err
	case c.NotAfter.Before(now):
		return "expired on " + c.NotAfter.UTC().Format(time.DateOnly)
	default:
		return fmt.Sprintf("valid until %s (%d days)", c.NotAfter.UTC().Format(time.DateOnly), days)
	}
}
