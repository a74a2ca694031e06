// Judges what the admission webhook answers, with the packages that the API server of Kubernetes uses.
//
// Each line of standard input is a JSON object {"review": …, "answer": …}. The answer is decoded strictly, its patch is
// applied to the object of the review, and the result is decoded strictly as a Pod. Each line of standard output is that
// Pod, as it is after the patch. With the arguments CA CERTIFICATE NAME it verifies a certificate instead, with POLICY it
// applies a MutatingAdmissionPolicy to Pods, one a line, and with match CONFIGURATION it says whether a webhook is asked.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admission "k8s.io/api/admission/v1"
	core "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
)

func main() {
	var err error
	if len(os.Args) == 2 {
		err = policed(os.Args[1])
	} else if len(os.Args) == 3 {
		err = matched(os.Args[2])
	} else if len(os.Args) == 4 {
		err = verify(os.Args[1], os.Args[2], os.Args[3])
	} else {
		err = judge()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge() error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	out := bufio.NewWriter(os.Stdout)
	for number := 1; lines.Scan(); number++ {
		pod, err := applied(lines.Bytes())
		if err != nil {
			return fmt.Errorf("line %d: %w: %.2000s", number, err, lines.Text())
		}
		out.Write(append(pod, '\n'))
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}

// applied does what dispatcher.go of the API server does with an answer.
func applied(line []byte) ([]byte, error) {
	var both struct{ Review, Answer json.RawMessage }
	if err := json.Unmarshal(line, &both); err != nil {
		return nil, err
	}
	var review, answer admission.AdmissionReview
	if err := json.Unmarshal(both.Review, &review); err != nil {
		return nil, err
	}
	if err := strict(both.Answer, &answer); err != nil {
		return nil, err
	}
	response := answer.Response
	if answer.APIVersion != review.APIVersion || answer.Kind != "AdmissionReview" || response == nil {
		return nil, fmt.Errorf("not an answer to %s", review.APIVersion)
	}
	if response.UID != review.Request.UID || !response.Allowed {
		return nil, fmt.Errorf("another uid, or not allowed")
	}
	object := review.Request.Object.Raw
	if len(response.Patch) == 0 {
		if response.PatchType != nil {
			return nil, fmt.Errorf("a patchType without patch")
		}
	} else {
		if response.PatchType == nil || *response.PatchType != admission.PatchTypeJSONPatch {
			return nil, fmt.Errorf("a patch without patchType")
		}
		patch, err := jsonpatch.DecodePatch(response.Patch)
		if err != nil {
			return nil, err
		}
		if object, err = patch.Apply(object); err != nil {
			return nil, err
		}
	}
	if err := strict(object, &core.Pod{}); err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	err := json.Compact(&compact, object)
	return compact.Bytes(), err
}

func strict(data []byte, into any) error {
	problems, err := kjson.UnmarshalStrict(data, into)
	if err == nil && len(problems) > 0 {
		err = problems[0]
	}
	return err
}

func verify(authority, certificate, name string) error {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(authority)
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: no authority: %v", authority, err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, certificate)
	if err != nil {
		return err
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
	return err
}
