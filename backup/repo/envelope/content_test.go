package envelope

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

// likeKubernetes makes content that compresses about as etcd's file under Kubernetes does: objects that repeat their fields, with names and IDs of their own.
func likeKubernetes(seed uint64, size int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	b.Grow(size + 4096)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, `k8s\x00\x0a\x0dv1 Pod {"metadata":{"name":"web-%08x-%05d","namespace":"team-%02d","uid":"%016x%016x","creationTimestamp":"2026-11-%02dT%02d:%02d:00Z",`,
			r.Uint32(), i, r.IntN(40), r.Uint64(), r.Uint64(), 1+r.IntN(30), r.IntN(24), r.IntN(60))
		b.WriteString(`"labels":{"app":"web","pod-template-hash":"` + base64.StdEncoding.EncodeToString(fmt.Append(nil, r.Uint32())) + `"},"managedFields":[{"manager":"kubelet","operation":"Update",`)
		b.WriteString(`"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{"k:{\"type\":\"ContainersReady\"}":{".":{},"f:lastProbeTime":{}}}}}}]},`)
		fmt.Fprintf(&b, `"spec":{"nodeName":"node-%03d","containers":[{"name":"web","image":"registry.local/web:1.%d"}]},"status":{"podIP":"10.%d.%d.%d","phase":"Running"}}`,
			r.IntN(500), r.IntN(20), r.IntN(256), r.IntN(256), r.IntN(256))
		if i%7 == 0 {
			b.Write(make([]byte, r.IntN(4096))) // the slack of a page
		}
	}
	return b.Bytes()[:size]
}

func sealWith(t testing.TB, content []byte, o Options, blockSize int) ([]byte, Sealed) {
	t.Helper()
	var stored bytes.Buffer
	w, err := newWriter(&stored, o, blockSize)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	s, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return stored.Bytes(), s
}

// fetchFrom serves ranges as a store does: what lies beyond the end is not there.
func fetchFrom(stored []byte) Fetch {
	return func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		offset = min(offset, int64(len(stored)))
		return io.NopCloser(bytes.NewReader(stored[offset:min(offset+length, int64(len(stored)))])), nil
	}
}
