package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Fault is one way for a request to go wrong.
type Fault string

// The faults of a transport.
const (
	LostAnswer   Fault = "lost answer"       // executed; the connection breaks before the answer
	Refused      Fault = "refused"           // not executed: connection refused
	Reset        Fault = "reset"             // not executed; the connection breaks
	Error500     Fault = "500"               // not executed
	Error503     Fault = "503"               // not executed: SlowDown
	LateError500 Fault = "500 after success" // executed, answered with 500
	Conflict     Fault = "409"               // not executed: ConditionalRequestConflict; only where there is a condition
	CutBody      Fault = "cut body"          // the answer's body ends early
	Slow         Fault = "slow"              // up to SlowMax of delay
	ClockSkew    Fault = "clock skew"        // not executed: RequestTimeTooSkewed
)

// Options of a Transport.
type Options struct {
	// Seed of all random choices; 0 takes one at random. Transport.Seed says which.
	Seed uint64
	// Chance of each fault per request, 0 to 1.
	Chance map[Fault]float64
	// SlowMax bounds the delays; 0 means 20 ms.
	SlowMax time.Duration
	// Spare exempts requests from faults.
	Spare func(*http.Request, Fault) bool
	// IgnoreConditions takes If-None-Match and If-Match off every request, as a server does that does not know them. The
	// request must be signed anew, hence the credentials.
	IgnoreConditions    bool
	AccessKeyID, Secret string
}

// Transport injects faults into HTTP requests. Wrap is a store.S3Options.Transport.
type Transport struct {
	Seed uint64
	opts Options
	next http.RoundTripper

	mu     sync.Mutex
	random *rand.Rand
	counts map[Fault]int
	queue  []planned
}

type planned struct {
	fault Fault
	match func(*http.Request) bool
}

// New makes a transport that injects faults by chance; with the zero Options it does so only when told by Next.
func New(opts Options) *Transport {
	if opts.Seed == 0 {
		opts.Seed = rand.Uint64() | 1 //nolint:gosec // chance, not secrecy
	}
	if opts.SlowMax == 0 {
		opts.SlowMax = 20 * time.Millisecond
	}
	return &Transport{
		Seed: opts.Seed, opts: opts, counts: map[Fault]int{},
		random: rand.New(rand.NewPCG(opts.Seed, opts.Seed)), //nolint:gosec // chance, not secrecy
	}
}

// Wrap puts the faults before next.
func (t *Transport) Wrap(next http.RoundTripper) http.RoundTripper {
	t.next = next
	return t
}

// Next plans one fault for the next request that match accepts (nil: any). Several plans for one request take turns.
func (t *Transport) Next(fault Fault, match func(*http.Request) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, planned{fault, match})
}

// Counts says how often each fault was injected.
func (t *Transport) Counts() map[Fault]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := map[Fault]int{}
	for f, n := range t.counts {
		counts[f] = n
	}
	return counts
}

// Planned is how many planned faults have not happened yet.
func (t *Transport) Planned() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue)
}

// order fixes the sequence of the random draws.
var order = []Fault{LostAnswer, Refused, Reset, Error500, Error503, LateError500, Conflict, CutBody, Slow, ClockSkew}

// choose decides about one request. The second result is a random number for the fault's own use.
func (t *Transport) choose(req *http.Request) (Fault, float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, p := range t.queue {
		if p.match == nil || p.match(req) {
			t.queue = append(t.queue[:i:i], t.queue[i+1:]...)
			t.counts[p.fault]++
			return p.fault, t.random.Float64()
		}
	}
	var chosen Fault
	for _, f := range order {
		if hit := t.random.Float64() < t.opts.Chance[f]; !hit || chosen != "" {
			continue
		}
		if f == Conflict && !conditional(req) || t.opts.Spare != nil && t.opts.Spare(req, f) {
			continue
		}
		chosen = f
		t.counts[f]++
	}
	return chosen, t.random.Float64()
}

func conditional(req *http.Request) bool {
	return req.Method != http.MethodGet && (req.Header.Get("If-None-Match") != "" || req.Header.Get("If-Match") != "")
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	fault, random := t.choose(req)
	if t.opts.IgnoreConditions && conditional(req) {
		var err error
		if req, err = t.withoutConditions(req); err != nil {
			return nil, err
		}
	}
	switch fault {
	case Refused:
		closeBody(req)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case Reset:
		closeBody(req)
		return nil, &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}
	case Error500:
		return t.answer(req, http.StatusInternalServerError, "InternalError"), nil
	case Error503:
		return t.answer(req, http.StatusServiceUnavailable, "SlowDown"), nil
	case Conflict:
		return t.answer(req, http.StatusConflict, "ConditionalRequestConflict"), nil
	case ClockSkew:
		return t.answer(req, http.StatusForbidden, "RequestTimeTooSkewed"), nil
	case Slow:
		select {
		case <-time.After(time.Duration(random * float64(t.opts.SlowMax))):
		case <-req.Context().Done():
		}
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch fault {
	case LostAnswer:
		drain(resp)
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	case LateError500:
		drain(resp)
		return t.answer(req, http.StatusInternalServerError, "InternalError"), nil
	case CutBody:
		if resp.ContentLength > 0 && resp.StatusCode/100 == 2 {
			resp.Body = &cutBody{ReadCloser: resp.Body, left: int64(random * float64(resp.ContentLength))}
		}
	}
	return resp, nil
}

// answer is a made-up refusal, given before the request's body was read.
func (t *Transport) answer(req *http.Request, status int, code string) *http.Response {
	closeBody(req)
	body := fmt.Sprintf(`<?xml version="1.0"?><Error><Code>%s</Code><Message>injected by faults</Message></Error>`, code)
	if req.Method == http.MethodHead {
		body = ""
	}
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(bytes.NewReader([]byte(body))),
		ContentLength: int64(len(body)), Request: req,
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

func drain(resp *http.Response) {
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// cutBody ends early, as a connection that breaks.
type cutBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (c *cutBody) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if errors.Is(err, io.EOF) && c.left > 0 {
		c.left = 0
	}
	return n, err
}
