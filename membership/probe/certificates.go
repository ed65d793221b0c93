package probe

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxCertificateFile bounds what is read of a file with certificates.
const maxCertificateFile = 1 << 20

// ReadCertificates reads all certificates of a PEM file, in order. What else is in the file is passed over.
func ReadCertificates(path string) ([]*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxCertificateFile))
	if err != nil {
		return nil, fmt.Errorf("read certificates of %s: %w", path, err)
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return all, fmt.Errorf("read certificates of %s: %w", path, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read certificates of %s: %w", path, errors.New("it holds no certificate in PEM"))
	}
	return all, nil
}

// ClientCertificates are what a client with this configuration shows, leaf first; none when it shows nothing.
func ClientCertificates(conf *tls.Config) []*x509.Certificate {
	if conf == nil {
		return nil
	}
	var pair *tls.Certificate
	switch {
	case conf.GetClientCertificate != nil:
		pair, _ = conf.GetClientCertificate(&tls.CertificateRequestInfo{})
	case len(conf.Certificates) > 0:
		pair = &conf.Certificates[0]
	}
	if pair == nil {
		return nil
	}
	var all []*x509.Certificate
	for _, der := range pair.Certificate {
		if c, err := x509.ParseCertificate(der); err == nil {
			all = append(all, c)
		}
	}
	return all
}
