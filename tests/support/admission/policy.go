package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	registration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

// policed applies a MutatingAdmissionPolicy to the Pods of standard input, one a line, as the API server does.
func policed(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var policy registration.MutatingAdmissionPolicy
	if err := strict(data, &policy); err != nil {
		return err
	}
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return err
	}
	var conditions []cel.ExpressionAccessor
	for at := range policy.Spec.MatchConditions {
		conditions = append(conditions, (*matchconditions.MatchCondition)(&policy.Spec.MatchConditions[at]))
	}
	options := cel.OptionalVariableDeclarations{}
	stored := environment.StoredExpressions
	matcher := matchconditions.NewMatcher(
		compiler.CompileCondition(conditions, options, stored), policy.Spec.FailurePolicy, "policy", "admit", policy.Name)
	options.HasPatchTypes = true
	var patchers []patch.Patcher
	for _, mutation := range policy.Spec.Mutations {
		condition := &patch.ApplyConfigurationCondition{Expression: mutation.ApplyConfiguration.Expression}
		evaluator := compiler.CompileMutatingEvaluator(condition, options, stored)
		patchers = append(patchers, patch.NewApplyConfigurationPatcher(evaluator))
	}
	ctx := compiler.CreateContext(context.Background())
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		pod := &core.Pod{}
		if err := strict(lines.Bytes(), pod); err != nil {
			return err
		}
		changed, err := changedBy(ctx, matcher, patchers, pod)
		if err != nil {
			return fmt.Errorf("%w: %s", err, lines.Text())
		}
		out, err := json.Marshal(changed)
		if err != nil {
			return err
		}
		fmt.Println(string(out))
	}
	return lines.Err()
}

func changedBy(
	ctx context.Context, matcher matchconditions.Matcher, patchers []patch.Patcher, pod *core.Pod,
) (runtime.Object, error) {
	kind, resource := core.SchemeGroupVersion.WithKind("Pod"), core.SchemeGroupVersion.WithResource("pods")
	pod.SetGroupVersionKind(kind)
	var object runtime.Object = pod
	for _, patcher := range patchers {
		attributes := &admission.VersionedAttributes{
			Attributes: admission.NewAttributesRecord(object, nil, kind, pod.Namespace, pod.Name, resource, "",
				admission.Create, &meta.CreateOptions{}, false, nil),
			VersionedKind:      kind,
			VersionedObject:    admission.NewLazyObject(object),
			VersionedOldObject: admission.NewLazyObject(nil),
		}
		matched := matcher.Match(ctx, attributes, nil, nil)
		if matched.Error != nil {
			return nil, matched.Error
		}
		if !matched.Matches {
			return object, nil
		}
		var err error
		object, err = patcher.Patch(ctx, patch.Request{
			MatchedResource:     resource,
			VersionedAttributes: attributes,
			ObjectInterfaces:    admission.NewObjectInterfacesFromScheme(scheme.Scheme),
			TypeConverter:       applyconfigurations.NewTypeConverter(scheme.Scheme),
		}, celconfig.RuntimeCELCostBudget)
		if err != nil {
			return nil, err
		}
	}
	return object, nil
}
