package repo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A sealed document is a JSON object whose first field is its format ("etcd-steward/<kind>/<version>") and whose last is a
// checksum: the SHA-256 of the whole document with the checksum's 64 digits written as zeros. So every flipped, missing or added byte
// is found with nothing but sha256sum and sed, also in documents of a format that this program does not know.

const (
	formatPrefix = "etcd-steward/"
	checksumHead = "\n  \"checksum\": \"sha256:"
	checksumTail = "\"\n}\n"
	// maxDocument bounds what is read of a document, whatever its object's size: a manifest of 64 GiB has 8192 blocks of 120 bytes.
	maxDocument = 4 << 20
)

var zeroDigits = strings.Repeat("0", 2*sha256.Size)

// Errors of Unseal.
var (
	// ErrDamaged means that the document is not what was written: its checksum, its structure or its size is wrong.
	ErrDamaged = errors.New("document is damaged")
	// ErrNewerFormat means that a newer program wrote it; nothing may be concluded from it, and nothing deleted because of it.
	ErrNewerFormat = errors.New("written in a newer format than this program knows")
)

// Seal encodes v, a struct, as a document of a kind and a format version.
func Seal(kind string, version int, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	if len(body) < 3 || body[0] != '{' {
		return nil, fmt.Errorf("encode %s: not an object with fields", kind)
	}
	var out bytes.Buffer
	flat := fmt.Sprintf(`{"format":"%s%s/%d",%s,"checksum":"sha256:%s"}`, formatPrefix, kind, version, body[1:len(body)-1], zeroDigits)
	if err := json.Indent(&out, []byte(flat), "", "  "); err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	out.WriteByte('\n')
	doc := out.Bytes()
	if len(doc) > maxDocument {
		return nil, fmt.Errorf("encode %s: %d bytes, more than a document may have", kind, len(doc))
	}
	at := len(doc) - len(checksumTail) - len(zeroDigits)
	sum := sha256.Sum256(doc)
	hex.Encode(doc[at:], sum[:])
	return doc, nil
}

// Unseal checks a document and decodes it into v. It returns ErrDamaged for any byte that is not as written, ErrNewerFormat for
// a later version of the kind, and refuses unknown fields.
func Unseal(kind string, version int, doc []byte, v any) error {
	if err := checkSeal(doc); err != nil {
		return err
	}
	var head struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(doc, &head); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var got int
	name, found := strings.CutPrefix(head.Format, formatPrefix+kind+"/")
	if _, err := fmt.Sscanf(name, "%d", &got); !found || err != nil || fmt.Sprint(got) != name || got < 1 {
		return fmt.Errorf("%w: its format is %q, not a %s", ErrDamaged, head.Format, kind)
	}
	if got > version {
		return fmt.Errorf("%w: %s", ErrNewerFormat, head.Format)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(doc, &raw); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	delete(raw, "format")
	delete(raw, "checksum")
	body, err := json.Marshal(raw)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

func checkSeal(doc []byte) error {
	if len(doc) > maxDocument {
		return fmt.Errorf("%w: longer than a document may be", ErrDamaged)
	}
	at := len(doc) - len(checksumTail) - 2*sha256.Size
	if at < len(checksumHead) || !bytes.HasSuffix(doc, []byte(checksumTail)) || !bytes.HasSuffix(doc[:at], []byte(checksumHead)) {
		return fmt.Errorf("%w: it does not end with a checksum", ErrDamaged)
	}
	h := sha256.New()
	h.Write(doc[:at])
	_, _ = io.WriteString(h, zeroDigits)
	h.Write(doc[len(doc)-len(checksumTail):])
	if want := hex.EncodeToString(h.Sum(nil)); want != string(doc[at:len(doc)-len(checksumTail)]) {
		return fmt.Errorf("%w: its checksum does not match", ErrDamaged)
	}
	return nil
}
