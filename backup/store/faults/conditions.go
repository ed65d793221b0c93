package faults

import (
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// withoutConditions is the request as a server sees it that has never heard of conditional writes.
func (t *Transport) withoutConditions(req *http.Request) (*http.Request, error) {
	bare := req.Clone(req.Context())
	for _, name := range []string{"If-None-Match", "If-Match", "Authorization"} {
		bare.Header.Del(name)
	}
	err := v4.NewSigner().SignHTTP(req.Context(), aws.Credentials{AccessKeyID: t.opts.AccessKeyID, SecretAccessKey: t.opts.Secret},
		bare, req.Header.Get("X-Amz-Content-Sha256"), "s3", "us-east-1", time.Now(),
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		return nil, fmt.Errorf("sign a request without its conditions: %w", err)
	}
	return bare, nil
}
