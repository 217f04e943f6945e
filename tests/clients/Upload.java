import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;

/** Uploads a photo with Java's own client. As it comes, it prefers HTTP/2, and offers the upgrade in its request. */
public class Upload {
  public static void main(String[] arguments) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    HttpRequest request =
        HttpRequest.newBuilder(URI.create("http://127.0.0.1:8000/predict"))
            .header("Content-Type", "image/jpeg")
            .POST(BodyPublishers.ofFile(Path.of("face.jpg")))
            .build();
    // The second takes the connection of the first, if that was left in order.
    for (int time = 0; time < 2; time++) {
      HttpResponse<String> answer = client.send(request, BodyHandlers.ofString());
      System.out.println(client.version() + " " + answer.version() + " " + answer.statusCode() + " " + answer.body());
    }
  }
}
