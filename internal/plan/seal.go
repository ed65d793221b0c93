package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"etcd-steward/internal/fail"
)

// The bounds of a plan. What is written on the board is indented, so a plan is measured as such.
const (
	maxSteps    = 128
	maxTextRune = 500
	maxArgs     = 16 << 10
	maxPlan     = 2 << 20
	maxWarnings = 32
	idDigits    = 16
)

var (
	kindForm    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	nameForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	clusterForm = regexp.MustCompile(`^[0-9a-f]{1,16}$`)
	idForm      = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*-[0-9a-f]{16}$`)
)

// ErrTampered means that a plan's content is not the one that its ID names.
var ErrTampered = errors.New("the plan's content is not the one that its ID names")

// New seals a plan: it is given its ID and checked. Made must be set; it is kept to the second, in UTC. The plan must not be changed afterwards.
func New(p Plan) (*Plan, error) {
	p.Made = p.Made.UTC().Truncate(time.Second)
	body, err := p.canonical()
	if err != nil {
		return nil, err
	}
	// What is sealed is what a reader will decode: nothing that the caller still holds, and no bytes that JSON would have replaced.
	p = Plan{}
	if err := strictly(body, &p); err != nil {
		return nil, fmt.Errorf("make a plan: %w", err)
	}
	if p.ID, err = p.sum(); err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("make a plan: %w", err)
	}
	return &p, nil
}

// canonical is the JSON of the plan without its ID.
func (p *Plan) canonical() ([]byte, error) {
	q := *p
	q.ID = ""
	body, err := json.Marshal(&q)
	if err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	return body, nil
}

func (p *Plan) sum() (string, error) {
	body, err := p.canonical()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(body)
	return p.Kind + "-" + hex.EncodeToString(sum[:])[:idDigits], nil
}

// Encode is the plan as it is stored and printed: one JSON object.
func (p *Plan) Encode() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// Decode reads and validates a plan. Unknown fields are refused: they may mean what this program does not do.
func Decode(doc []byte) (*Plan, error) {
	if len(doc) > maxPlan {
		return nil, fmt.Errorf("read plan: %d bytes, more than a plan may have", len(doc))
	}
	var p Plan
	if err := strictly(doc, &p); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	return &p, nil
}

// strictly decodes exactly one JSON value with known fields only.
func strictly(doc []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind its end")
	}
	return nil
}

// Validate is whether the plan can be executed, and is what its ID names. It is asked on every write and every read. An error that is [ErrTampered] is a refusal.
func (p *Plan) Validate() error {
	if err := p.validateHead(); err != nil {
		return err
	}
	if err := p.validateSteps(); err != nil {
		return err
	}
	if err := p.validateOrder(); err != nil {
		return err
	}
	body, err := p.canonical()
	if err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, body, "", "  "); err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	if indented.Len() > maxPlan {
		return fmt.Errorf("plan of %d bytes, more than the %d that it may have", indented.Len(), maxPlan)
	}
	want, err := p.sum()
	if err != nil {
		return err
	}
	if p.ID != want {
		return fail.Refused(fmt.Errorf("%w: it is called %.80q, and has the content of %q", ErrTampered, p.ID, want),
			"nothing was done; make the plan anew, and find out who changed it")
	}
	return nil
}

func (p *Plan) validateHead() error {
	switch {
	case !kindForm.MatchString(p.Kind) || len(p.Kind) > 40:
		return fmt.Errorf("plan of kind %.60q: want lower-case words with dashes", p.Kind)
	case !clusterForm.MatchString(p.Cluster):
		return fmt.Errorf("plan for cluster %.60q: want etcd's cluster ID in hex", p.Cluster)
	case p.Made.IsZero() || p.Made.Location() != time.UTC || !p.Made.Equal(p.Made.Truncate(time.Second)):
		return fmt.Errorf("plan made at %v: want a time in UTC, to the second", p.Made)
	case len(p.Warnings) > maxWarnings:
		return fmt.Errorf("plan with %d warnings, more than %d", len(p.Warnings), maxWarnings)
	case len(p.Steps) == 0 || len(p.Steps) > maxSteps:
		return fmt.Errorf("plan with %d steps: want 1 to %d", len(p.Steps), maxSteps)
	}
	return readable(append([]string{p.Title, p.MadeBy}, p.Warnings...)...)
}

func (p *Plan) validateSteps() error {
	seen := map[string]bool{}
	for i := range p.Steps {
		s := &p.Steps[i]
		switch {
		case !nameForm.MatchString(s.Name):
			return fmt.Errorf("step %d is called %.80q: want letters, digits, dots, dashes", i+1, s.Name)
		case seen[s.Name]:
			return fmt.Errorf("two steps are called %q", s.Name)
		case !nameForm.MatchString(s.Party):
			return fmt.Errorf("step %q is for party %.80q: want letters, digits, dots, dashes", s.Name, s.Party)
		case !nameForm.MatchString(s.Action):
			return fmt.Errorf("step %q has action %.80q: want letters, digits, dots, dashes", s.Name, s.Action)
		case len(s.Args) > maxArgs:
			return fmt.Errorf("step %q has arguments of %d bytes, more than %d", s.Name, len(s.Args), maxArgs)
		case len(s.After) > maxSteps:
			return fmt.Errorf("step %q comes after %d others, more than there may be", s.Name, len(s.After))
		}
		if err := readable(s.Text, s.State); err != nil {
			return fmt.Errorf("step %q: %w", s.Name, err)
		}
		seen[s.Name] = true
	}
	if !slices.ContainsFunc(p.Steps, func(s Step) bool { return !s.Optional }) {
		return errors.New("none of the steps must be done: such a plan is done before it begins")
	}
	return nil
}

// readable is whether texts are for people.
func readable(texts ...string) error {
	for _, t := range texts {
		if n := utf8.RuneCountInString(t); n > maxTextRune || !utf8.ValidString(t) {
			return fmt.Errorf("a text of %d characters (%.40q): want UTF-8, at most %d", n, t, maxTextRune)
		}
	}
	return nil
}
