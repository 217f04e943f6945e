package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"faces/manet"
)

func main() {
	configuration := manet.NewConfiguration()
	configuration.Servers = manet.ServerConfigurations{{URL: "http://127.0.0.1:8000"}}
	client := manet.NewAPIClient(configuration)
	photo, err := os.Open("face.jpg")
	if err != nil {
		panic(err)
	}
	answer, _, err := client.PredictAPI.Predict(context.Background()).Image(photo).Execute()
	var failed *manet.GenericOpenAPIError
	if errors.As(err, &failed) {
		if problem, ok := failed.Model().(manet.Problem); ok {
			fmt.Fprintf(os.Stderr, "%s: %s\n", problem.Type, problem.Detail)
			os.Exit(1)
		}
	}
	if err != nil {
		panic(err)
	}
	for _, face := range answer.Faces {
		fmt.Printf("%s %.2f\n", face.Expression, face.Confidence)
	}
}
