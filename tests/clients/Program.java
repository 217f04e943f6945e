import java.io.File;
import java.util.Locale;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.PredictApi;
import org.openapitools.client.model.Face;
import org.openapitools.client.model.Problem;

public class Program {
  public static void main(String[] arguments) throws Exception {
    ApiClient client = new ApiClient();
    client.updateBaseUri("http://127.0.0.1:8000");
    try {
      for (Face face : new PredictApi(client).predict(new File("face.jpg"), null, null).getFaces())
        System.out.printf(Locale.ROOT, "%s %.2f%n", face.getExpression(), face.getConfidence());
    } catch (ApiException failed) {
      if (failed.getResponseBody() == null) throw failed;
      Problem problem = client.getObjectMapper().readValue(failed.getResponseBody(), Problem.class);
      System.err.println(problem.getType() + ": " + problem.getDetail());
      System.exit(1);
    }
  }
}
