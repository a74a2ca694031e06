package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	admissionv1 "k8s.io/api/admission/v1"
	registration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/namespace"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/object"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules"
	"k8s.io/apiserver/pkg/cel/environment"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// matched says of each request on standard input, one AdmissionReview a line, whether an API server asks the first webhook
// of a MutatingWebhookConfiguration about it: "true", "false", or why a condition has no value. Namespaces are lines, too.
func matched(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var configuration registration.MutatingWebhookConfiguration
	if err := strict(data, &configuration); err != nil {
		return err
	}
	hook := &hook{MutatingWebhook: configuration.Webhooks[0]}
	var conditions []cel.ExpressionAccessor
	for at := range hook.MatchConditions {
		conditions = append(conditions, (*matchconditions.MatchCondition)(&hook.MatchConditions[at]))
	}
	compiler := cel.NewConditionCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	options := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	fail := registration.Fail // so that errors are told; the webhook's own policy may ignore them
	hook.matcher = matchconditions.NewMatcher(compiler.CompileCondition(conditions, options, environment.NewExpressions),
		&fail, "webhook", "admit", hook.Name)
	namespaces := cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil)
	selected := &namespace.Matcher{NamespaceLister: listers.NewNamespaceLister(namespaces)}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var kind struct{ Kind string }
		if err := json.Unmarshal(lines.Bytes(), &kind); err != nil {
			return err
		}
		if kind.Kind == "Namespace" {
			one := &core.Namespace{}
			if err := strict(lines.Bytes(), one); err != nil {
				return err
			}
			if err := namespaces.Add(one); err != nil {
				return err
			}
			continue
		}
		attributes, err := attributesOf(lines.Bytes())
		if err != nil {
			return err
		}
		asked, err := asks(hook, selected, attributes)
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println(asked)
		}
	}
	return lines.Err()
}

// hook is what selectors are asked of.
type hook struct {
	registration.MutatingWebhook
	matcher matchconditions.Matcher
}

func (h *hook) GetParsedNamespaceSelector() (labels.Selector, error) {
	return meta.LabelSelectorAsSelector(h.NamespaceSelector)
}

func (h *hook) GetParsedObjectSelector() (labels.Selector, error) {
	return meta.LabelSelectorAsSelector(h.ObjectSelector)
}

// asks does what ShouldCallHook of the API server does.
func asks(hook *hook, namespaces *namespace.Matcher, attributes *admission.VersionedAttributes) (bool, error) {
	if ok, err := namespaces.MatchNamespaceSelector(hook, attributes); err != nil || !ok {
		return false, problem(err)
	}
	if ok, err := (&object.Matcher{}).MatchObjectSelector(hook, attributes); err != nil || !ok {
		return false, problem(err)
	}
	ruled := false
	for _, rule := range hook.Rules {
		matcher := rules.Matcher{Rule: rule, Attr: attributes}
		ruled = ruled || matcher.Matches()
	}
	if !ruled {
		return false, nil
	}
	found := hook.matcher.Match(context.Background(), attributes, nil, nil)
	return found.Matches, found.Error
}

// problem keeps a nil of a type from becoming an error.
func problem[E interface {
	comparable
	error
}](err E) error {
	var none E
	if err == none {
		return nil
	}
	return err
}

func attributesOf(line []byte) (*admission.VersionedAttributes, error) {
	var review admissionv1.AdmissionReview
	if err := strict(line, &review); err != nil {
		return nil, err
	}
	request := review.Request
	kind, resource := schema.GroupVersionKind(request.Kind), schema.GroupVersionResource(request.Resource)
	now, err := podOf(request.Object.Raw)
	if err != nil {
		return nil, err
	}
	before, err := podOf(request.OldObject.Raw)
	if err != nil {
		return nil, err
	}
	attributes := admission.NewAttributesRecord(now, before, kind, request.Namespace, request.Name, resource, request.SubResource,
		admission.Operation(request.Operation), nil, false, nil)
	return &admission.VersionedAttributes{
		Attributes:         attributes,
		VersionedKind:      kind,
		VersionedObject:    admission.NewLazyObject(now),
		VersionedOldObject: admission.NewLazyObject(before),
	}, nil
}

func podOf(data []byte) (runtime.Object, error) {
	if len(data) == 0 || string(data) == "null" {
		return nil, nil
	}
	pod := &core.Pod{}
	return pod, strict(data, pod)
}
