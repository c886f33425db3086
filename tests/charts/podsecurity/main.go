// Asks Kubernetes' own Pod Security policy about pods: a JSON list of {"metadata", "spec"} on standard
// input, and for each pod a list of what the level "restricted" forbids on standard output.
package main

import (
	"encoding/json"
	"log"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func main() {
	var pods []corev1.Pod
	if err := json.NewDecoder(os.Stdin).Decode(&pods); err != nil {
		log.Fatal(err)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		log.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	faults := make([][]string, 0, len(pods))
	for _, pod := range pods {
		found := []string{}
		for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				found = append(found, result.ForbiddenReason+": "+result.ForbiddenDetail)
			}
		}
		faults = append(faults, found)
	}
	if err := json.NewEncoder(os.Stdout).Encode(faults); err != nil {
		log.Fatal(err)
	}
}
